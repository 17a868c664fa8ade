"""The suite that all runs are of, and the runs that nothing broke; a cluster that cannot be started is told loudly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clusters import SECONDS, numbers
from tests.support.suites import write_suite

# As `make` has it: threads that wait do not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell once more, below all results, what could not be tried here."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "tests/cluster/" in report.nodeid]
    for reason in sorted({report.longrepr[2].removeprefix("Skipped: ") for report in skipped}):
        terminalreporter.section("NOT TESTED", sep="!", red=True)
        terminalreporter.write_line(reason, red=True)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="session")
def unbroken(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, object]]:
    """The numbers of each seed's run, made on this machine without a pause."""
    folder = tmp_path_factory.mktemp("unbroken")
    run = [sys.executable, "-m", "hpa_bench", "run", "--suite", str(suite), "--method", "seqft"]
    run += ["--device", "cpu", "--no-report"]
    made = [subprocess.Popen([*run, "--seed", seed, "--out", str(folder / seed)]) for seed in ("0", "1")]
    assert [process.wait(SECONDS) for process in made] == [0, 0]
    return {seed: numbers(folder / str(seed)) for seed in (0, 1)}
