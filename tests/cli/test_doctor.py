"""The doctor's lines, and its short run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from tests.support.suites import write_suite


def doctor(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["doctor", "--device", "cpu", *arguments])
    return result.exit_code, result.output


def test_without_a_short_run_it_only_looks(tmp_path: Path) -> None:
    code, printed = doctor("--no-smoke", "--runs", str(tmp_path / "runs"))

    assert code == 0 and f"ok  disk of {tmp_path / 'runs'}" in printed and "short run" not in printed


@pytest.mark.slow
def test_the_whole_loop_of_a_suite(tmp_path: Path) -> None:
    suite = str(write_suite(tmp_path / "suite"))
    code, printed = doctor("--suite", suite, "--method", "wise_ft", "--runs", str(tmp_path / "runs"))
    assert code == 0 and f"ok  a short run of wise_ft on {suite}: " in printed and " s a step" in printed
    assert list((tmp_path / "runs").iterdir()) == []

    code, printed = doctor("--suite", suite, "--method", "resta", "--runs", str(tmp_path / "runs"))
    assert code == 1 and "no  a short run of resta" in printed and "needs the model before its alignment" in printed
