"""LaTeX tables: what names hold is printed, and TeX takes what is written."""

import shutil
import subprocess

import pytest

from hpa_bench.report import latex
from tests.support.reports import condition_of, several
from tests.support.run_folders import write_run

ODD = r"a_b$\bad{%#&}~^|<é中>--`x'' [y] ” ` Δ"


@pytest.fixture(scope="module")
def condition(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    changed = {"words": ODD}
    return condition_of([*several(root), write_run(root, "seqft", config=changed, changed=changed)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("random_columns", r"random\_columns"),
        ("50% of $x & {y}", r"50\% of \$x \& \{y\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("[x]*", "{[}x]{*}"),
        ("a--b", "a-{}-b"),
        ("−3.0 ± 1", "$-$3.0 $\\pm$ 1"),
        ("é ø ő 中", r"é ø o \texttt{U+4E2D}"),
        ("one\n two\t", "one two"),
    ],
)
def test_names_are_escaped(text, expected):
    assert latex.escaped(text) == expected


def test_the_main_table_has_a_row_a_method_and_marks_the_best(condition):
    lines = latex.main_table(condition).splitlines()

    rows = [line for line in lines if line.endswith(r" \\")]
    odd = f"seqft (words={latex.escaped(ODD)})"
    assert [row.partition(" & ")[0] for row in rows] == [
        "Method",
        r"zero\_shot",
        "joint",
        "seqft",
        odd.partition(" & ")[0],
        "hpa",
    ]
    assert len(rows) == 1 + len(condition.main)
    assert r"\toprule" in lines and r"\midrule" in lines and r"\bottomrule" in lines
    assert {row.replace(r"\&", "").count("&") for row in rows} == {7}
    assert any(r"\textbf{" in row for row in rows)


def test_differences_are_told_by_a_star(condition):
    differs = latex.differences_table(condition)

    assert r"\rlap{$^*$}" in differs and "minus seqft" in differs


def test_one_method_has_no_differences(tmp_path):
    assert set(latex.tables_of(condition_of([write_run(tmp_path)]))) == {"main", "sets"}


@pytest.mark.slow
def test_tex_takes_it_in_the_encoding_that_is_not_its_default(condition, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: apt-get install texlive-latex-base texlive-latex-recommended")
    for name, text in latex.tables_of(condition).items():
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
    document = latex.document(ODD, list(latex.tables_of(condition)), [])
    packages = "\\usepackage[T1]{fontenc}\n\\begin{document}"
    (tmp_path / "paper.tex").write_text(document.replace(r"\begin{document}", packages), encoding="utf-8")

    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)

    log = (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert ended.returncode == 0, log[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert "Missing character" not in log
