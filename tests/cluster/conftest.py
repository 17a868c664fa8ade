"""The suite that all runs are of, and the runs that nothing broke; a cluster that cannot be started is told loudly."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clusters import SECONDS, numbers
from tests.support.suites import write_suite

# As `make` has it: threads that wait do not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
NOT_TRIED = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_TRIED] = set()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for reason in sorted(config.stash.get(NOT_TRIED, set())):
        terminalreporter.section("NOT TESTED", sep="!", red=True)
        terminalreporter.write_line(reason, red=True)


@pytest.fixture(scope="session")
def give_up(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Skip what cannot be tried here, and say so once more below all results."""

    def said(reason: str) -> None:
        pytestconfig.stash[NOT_TRIED].add(reason)
        pytest.skip(reason)

    return said


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
