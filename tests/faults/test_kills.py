"""SIGKILL at points spread over `run`, `judge` and `compare`; the same command again ends as an unbroken one did.

A point is a change to the run's folder (a file that is opened for writing, renamed or removed, a line of the log): the
process is killed just before it.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hpa_bench import run
from tests.faults.conftest import Note
from tests.support.faults import command, contents, outcome, processes
from tests.support.suites import write_suite

pytestmark = pytest.mark.faults

POINTS = 40
SHARES = 4
"""Tests that the points of `run` are dealt out to, so that several processes share them."""


def _changes(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    """Whether an audited event changes something below a folder."""
    if event not in ("open", "os.rename", "os.remove", "os.rmdir") or not str(arguments[0]).startswith(folder):
        return False
    return event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


def _killed(act: Callable[[], Any], folder: Path, point: int | None, counted: Path) -> None:
    """Act in this process, which is killed at a point, or counts them all."""
    seen = 0

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if _changes(event, arguments, str(folder)):
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)
    gc.freeze()
    act()
    counted.write_text(str(seen))


def killed(act: Callable[[], Any], folder: Path, point: int | None) -> int:
    """Act in a process of its own and return its exit code, or where no point is given, the number of points."""
    counted = folder.with_name("counted")
    process = processes.Process(target=_killed, args=(act, folder, point, counted))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode if point else int(counted.read_text())


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    training = {"learning_rate": 1e-2, "batch_size": 2, "epochs": 1, "save_steps": 1, "limit": 4}
    folder = tmp_path_factory.mktemp("suite")
    return str(write_suite(folder, benign_sets=[], training=training, evaluation={"limit": 2}))


def training_run(suite: str, out: Path) -> None:
    run(suite, "ewc", out=out)


class Unbroken(NamedTuple):
    """A run that nobody kills."""

    path: Path
    points: int


@pytest.fixture(scope="module")
def unbroken(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    return Unbroken(out, killed(partial(training_run, suite, out), out, None))


@pytest.mark.parametrize("share", range(SHARES))
def test_run(share: int, suite: str, unbroken: Unbroken, note: Note, tmp_path: Path) -> None:
    assert unbroken.points > POINTS
    for index in range(share, POINTS, SHARES):
        point = 1 + index * unbroken.points // POINTS
        out = tmp_path / f"run{point}"
        assert killed(partial(training_run, suite, out), out, point) == -signal.SIGKILL
        found = outcome(lambda out=out: training_run(suite, out), [], lambda _, out=out: same(out, unbroken.path))
        note("`hpa-bench run`, then the same command", "SIGKILL", f"point {point} of {unbroken.points}", found)
        shutil.rmtree(out)


def same(folder: Path, other: Path) -> bool:
    return contents(folder) == contents(other) and not list(folder.rglob("*.partial"))


@pytest.mark.parametrize("options", [[], ["--again"]], ids=["first", "again"])
def test_judge(options: list[str], unbroken: Unbroken, note: Note, tmp_path: Path) -> None:
    def judge(folder: Path, *more: str) -> partial[str]:
        return partial(command, "judge", folder, "--judge", "tiny_compliance", *more)

    before = Path(shutil.copytree(unbroken.path, tmp_path / "before"))
    if options:
        judge(before)()
    judged = Path(shutil.copytree(before, tmp_path / "judged"))
    points = killed(judge(judged, *options), judged, None)
    assert points > 10
    for point in range(1, points + 1, 8):
        out = Path(shutil.copytree(before, tmp_path / "run"))
        assert killed(judge(out, *options), out, point) == -signal.SIGKILL
        found = outcome(judge(out, *options), [], lambda _, out=out: same(out, judged))
        note("`hpa-bench judge`, then the same command", "SIGKILL", f"point {point} of {points}", found)
        shutil.rmtree(out)


def same_results(runs: Path, others: Path) -> bool:
    """Whether the runs below two folders, and what their reports have of them, are the same."""
    done = [path.parent.relative_to(others) for path in others.rglob("manifest.json")]
    tables = [path.relative_to(others) for path in others.rglob("report/tables/results.csv")]
    equal = all((runs / table).read_bytes() == (others / table).read_bytes() for table in tables)
    return len(done) == 2 and len(tables) == 1 and equal and all(same(runs / path, others / path) for path in done)


def test_compare(suite: str, note: Note, tmp_path: Path) -> None:
    def compare(runs: Path) -> subprocess.Popen[bytes]:
        arguments = ["--suite", suite, "--methods", "zero_shot", "--seeds", "0-1", "--jobs", "1", "--runs", str(runs)]
        parts = [sys.executable, "-m", "hpa_bench", "compare", *arguments]
        # A session of its own: what compare has started is killed with it, as when a machine goes down.
        return subprocess.Popen(parts, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert compare(whole).wait() == 0
    points = ("*/*/seed0/stage0/responses", "*/*/seed1/manifest.json", "*/report/tables/*.csv")
    for point in points:
        process = compare(broken)
        while process.poll() is None and not any(broken.glob(point)):
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, point
    found = outcome(lambda: compare(broken).wait(), [], lambda code: code == 0 and same_results(broken, whole), 300)
    for point in points:
        note("`hpa-bench compare`, then the same command", "SIGKILL", point, found)
