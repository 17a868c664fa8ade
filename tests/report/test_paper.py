"""Figures for papers: their sizes, fonts and bytes, and that lines can be told apart without colour."""

import re
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.report.paper import COLUMN, TEXT, _line, drawings, save
from tests.support.reports import condition_of
from tests.support.run_folders import TASKS, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    odd = {"words": r"a$\bad{$_b<&>"}
    methods = {"zero_shot": [], "joint": [TASKS], "seqft": None, "hpa": None}
    listed = [write_run(root, name, stages=stages, forget=0.5, n=20) for name, stages in methods.items()]
    return [*listed, write_run(root, "seqft", config=odd, changed=odd, forget=0.9, unsafe=0.9, n=20)]


@pytest.fixture(scope="module")
def condition(runs):
    return condition_of(runs)


@pytest.fixture(scope="module")
def paper(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    folders = [str(run.path) for run in runs]
    made = CliRunner().invoke(app, ["report", *folders, "--out", str(out), "--figures", "paper"])
    assert made.exit_code == 0, made.output
    return out / "paper"


def test_lines_differ_without_colour():
    styles = [(style["marker"], str(style["ls"])) for style in map(_line, range(20))]

    assert len(set(styles)) == 20


def test_one_method_has_what_needs_no_other(tmp_path):
    found = drawings(condition_of([write_run(tmp_path)]))

    assert list(found) == ["stages", "forgetting"]


def test_of_a_run_that_goes_on_there_is_nothing_final_to_draw(tmp_path):
    found = drawings(condition_of([write_run(tmp_path, finished=1)]))

    assert list(found) == ["forgetting"]


def test_names_in_one_column_are_those_that_matter(condition):
    figures = {width: drawings(condition)["accuracy-safety"].draw(condition, width) for width in (COLUMN, TEXT)}

    named = {width: {text.get_text() for text in figure.axes[0].texts} for width, figure in figures.items()}
    assert named[TEXT] == {group.label for group in condition.main}
    assert named[COLUMN] < named[TEXT] and {"hpa", "seqft", "zero_shot", "joint"} <= named[COLUMN]
    for width, figure in figures.items():
        assert figure.get_figwidth() == width
        assert {text.get_fontsize() for text in figure.axes[0].texts} == {7}


@pytest.mark.slow
def test_pdfs_have_their_widths_and_embedded_truetype_fonts(paper):
    found = sorted(path.name for path in paper.glob("*.pdf"))

    names = ("accuracy-safety", "differences", "forgetting", "stages")
    assert found == [f"{name}-{columns}.pdf" for name in names for columns in ("one-column", "two-columns")]
    for path in paper.glob("*.pdf"):
        content = path.read_bytes()
        width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)[1])
        assert width == 72 * (COLUMN if "one-column" in path.name else TEXT)
        assert b"/FontFile2" in content and b"/Type3" not in content
        svg = path.with_suffix(".svg").read_text(encoding="utf-8")
        assert "<script" not in svg and "<text" not in svg


@pytest.mark.slow
def test_the_document_compiles(paper):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: apt-get install texlive-latex-base texlive-latex-recommended")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, cwd=paper, capture_output=True, timeout=120)

    log = (paper / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert ended.returncode == 0, log[-2000:]
    assert not [line for line in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(line) > 2]


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(paper, condition, tmp_path):
    drawing = drawings(condition)["accuracy-safety"]
    save(drawing.draw(condition, COLUMN), tmp_path / "again")

    for suffix in ("pdf", "svg"):
        first = (paper / f"accuracy-safety-one-column.{suffix}").read_bytes()
        assert first == (tmp_path / f"again.{suffix}").read_bytes()
