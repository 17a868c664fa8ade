"""`hpa-bench report`: what is no run is one sentence, and nothing is written; a live run is reported."""

import html
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench import run
from hpa_bench.cli import app, main
from hpa_bench.results.manifest import MANIFEST
from hpa_bench.runner.events import Event, Generated, Observer, RunStarted, StageStarted, TrainStep
from tests.support.run_folders import toy_manifest
from tests.support.suites import write_suite


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what is said of folders that hold no run."""

    def refused(*folders: Path) -> str:
        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["hpa-bench", "report", *map(str, folders), "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == 2 and printed.out == "" and not out.exists()
        assert printed.err.count("\n") == 1
        return printed.err

    return refused


def test_a_folder_without_a_run(report: Callable[..., str], tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        expected = f"No run in {folder}: expected a folder with a manifest.json at or below it."
        assert report(folder) == f"Error: {expected}\n"


def test_one_bad_folder_among_good_ones(report: Callable[..., str], tmp_path: Path) -> None:
    toy_manifest().write(tmp_path / "good" / MANIFEST)

    assert report(tmp_path / "good", tmp_path / "bad").startswith(f"Error: No run in {tmp_path / 'bad'}: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format": 2, ', "is no JSON ("),
        ("[]", "is no manifest of hpa-bench: it holds no object."),
        ('{"format": 2}', "is no manifest of hpa-bench: it lacks suite, method, "),
        ('{"format": 99}', "has format 99, and this version reads 1 and 2: update hpa-bench."),
    ],
)
def test_a_manifest_that_cannot_be_read(text: str, reason: str, report: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)

    assert report(tmp_path).startswith(f"Error: {tmp_path / MANIFEST} {reason}")


class Reporter(Observer):
    """Reports the run that it hears of at some of its moments."""

    name = "reporter"

    def __init__(self, out: Path) -> None:
        self.out = out
        self.said: list[str] = []

    def observe(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.folder = event.folder
        if isinstance(event, StageStarted | Generated) or (isinstance(event, TrainStep) and event.done == 1):
            out = self.out / str(len(self.said))
            made = CliRunner().invoke(app, ["report", self.folder, "--out", str(out)])
            assert made.exit_code == 0, made.output
            page = html.unescape((out / "report.html").read_text())
            (said,) = {line for line in made.output.splitlines() if "missing: in progress" in line}
            assert said.partition("missing: ")[2] in page
            self.said.append(said)


@pytest.mark.slow
def test_a_live_run_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "reports")
    # What an observer raises is only logged: what it has said shows that nothing was.
    run(str(write_suite(tmp_path / "suite", tasks=["colours"])), "seqft", out=tmp_path / "run", observers=[reporter])

    begun, first = "no stage finished", "stage 0 of 1 finished"
    assert reporter.said == [
        f"seqft, seed 0: missing: in progress, {stage}" for stage in (begun, begun, first, first, first)
    ]
    again = CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--out", str(tmp_path / "again")])
    assert again.exit_code == 0 and "in progress" not in again.output
