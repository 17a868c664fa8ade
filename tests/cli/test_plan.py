"""What a comparison comes to, as it is shown."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from tests.support.suites import write_suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_suite(tmp_path_factory.mktemp("suite"), cpu_threads=1))


def plan(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def row(printed: str, method: str) -> list[str]:
    return next(line.split() for line in printed.splitlines() if line.split()[:1] == [method])


def test_runs_steps_and_requests(suite: str, tmp_path: Path) -> None:
    printed = plan("--suite", suite, "--methods", "seqft,replay,zero_shot,resta", "--seeds", "0-1", "--device", "cpu")

    # Two tasks of 12 samples in batches of 4; sets of 6, 6, 5 and 5 requests after each stage and before.
    assert row(printed, "seqft")[1:4] == ["2", "12", "132"]
    assert row(printed, "replay")[1:4] == ["2", "12+", "132"]
    assert row(printed, "zero_shot")[1:4] == ["2", "0", "44"]
    assert row(printed, "all")[1:4] == ["6", "24", "308"]
    assert "stage 0 for 5 of the 6 runs and the first task's training for 2 come from another run" in printed
    assert "missing: resta: Method 'resta' needs the model before its alignment" in printed
    assert "Hours" not in printed and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_hours_by_a_probe(suite: str, tmp_path: Path) -> None:
    arguments = ["--suite", suite, "--methods", "seqft,wise_ft", "--seeds", "0", "--device", "cpu"]
    printed = plan(*arguments, "--probe", "--runs", str(tmp_path / "runs"))

    assert "[2/2] probing wise_ft" in printed and "of one device for 2 runs" in printed
    assert row(printed, "seqft")[7].count(":") == 2 and "MiB" in printed
    assert list((tmp_path / "runs").iterdir()) == [], "nothing of the probes stays"
