"""A stranger's package, really installed: what it adds is found by name, and one small run uses all of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_bench.results.run_folder import RunFolder
from tests.support import commands
from tests.support.published import publish_committed
from tests.support.suites import write_suite

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed in."""
    site = tmp_path_factory.mktemp("site")
    # A build leaves files beside the sources.
    source = shutil.copytree(PLUGIN, tmp_path_factory.mktemp("source") / "plugin")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True)
    return site


def hpa_bench(site: Path, *arguments: str) -> str:
    beside = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(site / "cache"), "STRANGERS_NOTES": str(notes(site))}
    done = commands.hpa_bench(*arguments, environment=os.environ | beside)
    assert done.returncode == 0, done.stdout
    return done.stdout


def notes(site: Path) -> Path:
    return site.parent / "notes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("methods", "half_way             Keep a share of every update."),
        ("judges", "polite               Says refused where a response says sorry, else not_refused."),
        ("engines", "one_by_one           Generates one response at a time, with the model that the run trains."),
        ("launchers", "in_turn              Starts one run after another, and keeps a journal of them."),
        ("observers", "notes                Writes the kind of every event into the file that STRANGERS_NOTES names."),
    ],
)
def test_what_a_stranger_adds_is_listed(kind: str, line: str, site: Path) -> None:
    assert line in hpa_bench(site, "list", kind).splitlines()


@pytest.mark.slow
def test_one_run_uses_all_of_it(site: Path, tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path,
        include_paths=["./tasks", str(site / "stranger" / "sets")],
        tasks=["strangers_colours"],
        safety_sets=["strangers_dares"],
        benign_sets=[],
        judges=["polite:word=a"],
    )
    out, before = tmp_path / "run", notes(site).read_text() if notes(site).exists() else ""
    arguments = ["run", "--suite", str(suite), "--method", "half_way", "--set", "share=0.25", "--no-report"]
    arguments += ["--set", "evaluation.engine=one_by_one", "--device", "cpu", "--out", str(out)]
    hpa_bench(site, *arguments)

    run = RunFolder(out)
    stage = run.stage(1)
    assert len(run.finished_stages()) == 2
    responses = [json.loads(line) for line in (stage.path / "responses/strangers_dares.jsonl").read_text().splitlines()]
    found = [file for file in (stage.path / "judgements").rglob("strangers_dares.jsonl") if "polite" in str(file)]
    verdicts = [json.loads(line)["verdict"] for line in found[0].read_text().splitlines()]
    assert (
        verdicts == ["refused" if "a" in row["response"] else "not_refused" for row in responses] and len(verdicts) == 3
    )
    assert "strangers_colours" in (stage.path / "scores.json").read_text()
    started = json.loads((out / "events.jsonl").read_text().splitlines()[0])
    assert (started["method"], started["engine"]) == ("half_way", "one_by_one")
    noted = notes(site).read_text().removeprefix(before).splitlines()
    assert noted[0] == "run" and noted[-1] == "finished"


@pytest.mark.slow
def test_a_comparison_is_started_by_a_strangers_launcher(site: Path, tmp_path: Path) -> None:
    suite, runs, journal = write_suite(tmp_path, tasks=["colours"]), tmp_path / "runs", tmp_path / "journal"
    arguments = ["compare", "--suite", str(suite), "--methods", "half_way:share=0.25", "--seeds", "3"]
    arguments += ["--set", "training.limit=4", "--set", "evaluation.limit=2", "--device", "cpu", "--runs", str(runs)]
    said = hpa_bench(site, *arguments, "--launcher", f"in_turn:journal={journal}")

    (spec,) = runs.rglob("seed3*.json")
    run = RunFolder(spec.with_suffix(""))
    assert journal.read_text().splitlines() == [f"begun {run.path.name}", f"ended with 0 {run.path.name}"]
    assert f"[1/1] {run.path}: finished" in said.replace("\n", "")
    assert len(run.finished_stages()) == 2 and "share" in json.dumps(json.loads(spec.read_text()))
    assert (runs / "small" / "report" / "report.html").exists()
    # What is finished is not started again.
    assert "1 finished before" in hpa_bench(site, *arguments, "--launcher", f"in_turn:journal={journal}")
    assert len(journal.read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_strangers_method_stands_in_the_whole_published_table(site: Path, tmp_path: Path) -> None:
    suite = write_suite(tmp_path, tasks=["colours"], cpu_threads=1)
    published, runs = tmp_path / "published", tmp_path / "runs"
    for method in ("zero_shot", "seqft", "l2"):
        made = tmp_path / method
        arguments = ["run", "--suite", str(suite), "--method", method, "--device", "cpu", "--no-report"]
        hpa_bench(site, *arguments, "--out", str(made))
        publish_committed(RunFolder(made), published)
    arguments = ["compare", "--suite", str(suite), "--methods", "half_way", "--seeds", "0", "--device", "cpu"]
    said = hpa_bench(site, *arguments, "--runs", str(runs), "--with", str(published))

    assert "Every response equal to the published run." in said
    assert len(list(runs.rglob("manifest.json"))) == 1, "the others are not run again"
    tables = runs / "small" / "report" / "tables"
    rows = [line.split("`")[1] for line in (tables / "main.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == ["zero_shot", "seqft", "half_way", "l2"]
    differences = [line for line in (tables / "differences.csv").read_text().splitlines() if ",half_way," in line]
    assert any(",ap,seqft,1,6," in line for line in differences), "paired by seed and by sample"

    # The same, of a run that is there already.
    (folder,) = (path.parent for path in runs.rglob("manifest.json"))
    out = tmp_path / "report"
    hpa_bench(site, "report", str(folder), "--with", str(published), "--suite", str(suite), "--out", str(out))
    assert (out / "tables" / "main.md").read_text() == (tables / "main.md").read_text()
