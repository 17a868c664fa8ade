"""docs/architecture.md's table of what one touches to add something, by doing it: these files of a copy, no others."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hpa_bench.results.run_folder import find_runs
from tests.support.downloads import write_set

ROOT = Path(__file__).parents[1]
FIGURE = '''

def final_accuracies(condition: Condition) -> Figure:
    """Draw each method's AP."""
    figure = Figure(figsize=(4, 3))
    found = [(group.label, group.final(plane(condition)[0])) for group in condition.main]
    figure.subplots().bar(*zip(*((label, cell.value) for label, cell in found if isinstance(cell, Cell)), strict=True))
    return figure
'''
TASK = """
include: _llava_format_yaml
task: mine
dataset_kwargs: {folder: mine, images: mine, scoring: strict/exact}
generation_kwargs: {until: [], do_sample: false, max_gen_toks: 2}
"""


def edit(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, f"{file}: {old}"
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")


def command(site: Path, cwd: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-m", "hpa_bench", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the package as it is once installed, and of pyproject.toml."""
    site, ignored = tmp_path / "site", shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hpa_bench", site / "hpa_bench", ignore=ignored)
    for beside in ("baselines", "safety_sets", "tasks"):
        shutil.copytree(ROOT / beside, site / "hpa_bench" / beside, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", site)
    return site


def install(site: Path) -> None:
    """Write the metadata that pip makes of pyproject.toml."""
    groups = tomllib.loads((site / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    metadata = site / "copied-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: copied\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("\n".join(lines))


@pytest.mark.slow
def test_a_method_a_task_and_a_figure_of_the_report_take_the_files_that_the_docs_say(
    site: Path, tmp_path: Path
) -> None:
    package = site / "hpa_bench"
    command(site, tmp_path, "new-method", "half_of_it")
    shutil.copy(tmp_path / "half_of_it.py", package / "baselines")
    first = '\nhpa = "hpa_bench.hpa.method:HPA"\n'
    edit(site / "pyproject.toml", (first, f'{first}half_of_it = "hpa_bench.baselines.half_of_it:HalfOfIt"\n'))
    (package / "tasks" / "mine.yaml").write_text(TASK)
    edit(
        package / "report" / "figures.py",
        ("\n\ndef accuracy_matrix(", f"{FIGURE}\n\ndef accuracy_matrix("),
        ("AGAINST: judged}", 'AGAINST: judged, "final-accuracies": True}'),
        ("drawings = {AGAINST: against}", 'drawings = {AGAINST: against, "final-accuracies": final_accuracies}'),
    )
    section = package / "report" / "page" / "accuracy.html.j2"
    edit(section, ('<div class="matrices">', '<p>Mine: {{ part.figures["final-accuracies"]|safe }}</p><div>'))
    install(site)
    write_set(tmp_path / "mine", tmp_path / "mine", "")

    settings = ["tasks=[mine]", "training.epochs=1", "evaluation.limit=2", "calibration.task_samples=4"]
    given = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "runs"
    methods = ["--methods", "half_of_it,seqft", "--seeds", "0"]
    command(
        site, tmp_path, "compare", "--suite", "tiny", *methods, "--data-root", str(tmp_path), *given, "--out", str(out)
    )

    runs = {run.manifest.method: run for run in find_runs([out])}
    assert {name: run.manifest.method_kind for name, run in runs.items()} == {
        "half_of_it": "weights",
        "seqft": "reference",
    }
    for run in runs.values():
        rows = json.loads((run.finished_stages()[-1].path / "scores.json").read_text())
        assert [row["value"] for row in rows if (row["set"], row["metric"]) == ("mine", "accuracy")]
    (page,) = out.rglob("report.html")
    text = page.read_text(encoding="utf-8")
    assert "<p>Mine: <svg" in text and 'data-m="half_of_it" data-k="weights"' in text
    assert (page.parent / "figures" / "final-accuracies.svg").is_file()
