"""Comparisons that share a folder, or are stopped or killed: real processes, and the numbers of an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.machine.lease import Lease, holder_of
from hpa_bench.results.run_folder import CLAIM, FAILED, LEASE
from hpa_bench.runner.events import LOG, read_log
from hpa_bench.runner.sharing import Share
from tests.support.commands import hpa_bench
from tests.support.faults import contents
from tests.support.suites import write_suite

RUNS = 2
"""One method with two seeds."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    training = {"learning_rate": 1e-2, "batch_size": 1, "epochs": 3, "save_steps": 2}
    folder = tmp_path_factory.mktemp("suite")
    return str(write_suite(folder, benign_sets=[], training=training, cpu_threads=1, evaluation={"limit": 4}))


@pytest.fixture(scope="module")
def unbroken(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("unbroken") / "runs"
    finish(suite, runs)
    return runs


def asked(suite: str, runs: Path, jobs: int) -> list[str]:
    arguments = ["compare", "--suite", suite, "--methods", "seqft", "--seeds", "0-1", "--jobs", str(jobs)]
    return [*arguments, "--device", "cpu", "--runs", str(runs)]


def compare(suite: str, runs: Path, jobs: int = 1) -> subprocess.Popen[str]:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background job ignores it, and its children.
    command = [sys.executable, "-m", "hpa_bench", *asked(suite, runs, jobs)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(suite: str, runs: Path) -> None:
    """The same comparison, until it is done, by this process."""
    done = CliRunner().invoke(app, asked(suite, runs, 2))
    assert done.exit_code == 0, done.output


def until(there: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not there():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.005)


def began(runs: Path) -> dict[str, int]:
    """How often each run was begun, by its folder."""
    logs = sorted(runs.rglob(LOG))
    return {str(log.parent.relative_to(runs)): sum(row["event"] == "run" for row in read_log(log)) for log in logs}


def assert_like(runs: Path, unbroken: Path) -> None:
    folders = [log.parent.relative_to(unbroken) for log in unbroken.rglob(LOG)]
    assert len(folders) == RUNS
    for folder in folders:
        assert contents(runs / folder) == contents(unbroken / folder), folder
    assert not list(runs.rglob(FAILED))


@pytest.mark.slow
def test_two_comparisons_on_one_folder_make_each_run_once(suite: str, unbroken: Path, tmp_path: Path) -> None:
    both = [compare(suite, tmp_path) for _ in range(2)]
    said = [one.communicate(timeout=300)[0] for one in both]

    assert [one.returncode for one in both] == [0, 0], said
    assert list(began(tmp_path).values()) == [1] * RUNS
    assert_like(tmp_path, unbroken)
    for log in tmp_path.glob("*/*/*.log"):
        assert log.read_text().count("engine hf") == 1, "of one attempt alone"


@pytest.mark.slow
def test_what_a_killed_comparison_had_in_hand_goes_on_in_another(suite: str, unbroken: Path, tmp_path: Path) -> None:
    both = [compare(suite, tmp_path) for _ in range(2)]
    whole = "*/*/*/stage1/trainer.partial/checkpoint-*/WHOLE"
    until(lambda: list(tmp_path.glob(whole)), both[0])
    held = next(iter(tmp_path.glob(whole))).parents[3]
    runner = holder_of(held / LEASE)
    assert runner is not None
    makers = {process.pid for process in psutil.Process(runner.pid).parents()}
    first, second = sorted(both, key=lambda one: one.pid not in makers)

    first.kill()
    first.wait()
    said = second.communicate(timeout=500)[0]

    assert second.returncode == 0, said
    assert not psutil.pid_exists(runner.pid), "the run died with its comparison"
    assert_like(tmp_path, unbroken)
    assert began(tmp_path)[str(held.relative_to(tmp_path))] == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_comparison_leaves_nothing_running_and_goes_on(
    number: signal.Signals, suite: str, unbroken: Path, tmp_path: Path
) -> None:
    process = compare(suite, tmp_path, jobs=2)
    until(lambda: len(list(tmp_path.glob("*/*/*/stage1/trainer.partial/checkpoint-*/WHOLE"))) >= 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2

    sent = time.monotonic()
    os.killpg(process.pid, number)  # As a terminal does.
    said = process.communicate(timeout=60)[0]

    assert time.monotonic() - sent < 15
    assert process.returncode == (130 if number == signal.SIGINT else -number), said
    assert said.splitlines()[-1].startswith("stopped; the same command goes on (") and "of 2 done)" in said
    assert not any(child.is_running() for child in children)
    assert not list(tmp_path.rglob(FAILED))
    reasons = [list(read_log(log))[-1] for log in tmp_path.rglob(LOG)]
    assert [row["reason"] for row in reasons if row["event"] == "failed"] == ["stopped"] * 2
    finish(suite, tmp_path)
    assert_like(tmp_path, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_far_it_is_and_goes_on(
    number: signal.Signals, suite: str, unbroken: Path, tmp_path: Path
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = ["run", "--suite", suite, "--method", "seqft", "--no-report", "--device", "cpu"]
    command = [sys.executable, "-m", "hpa_bench", *arguments, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: list(tmp_path.glob("run/stage1/trainer.partial/checkpoint-*/WHOLE")), process)

    process.send_signal(number)
    said = process.communicate(timeout=60)[0]

    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert said.splitlines()[-1] == "stopped; the same command goes on (1 of 3 stages done)"
    assert holder_of(tmp_path / "run" / LEASE) is None and not (tmp_path / "run" / FAILED).exists()
    assert hpa_bench(*arguments, "--out", tmp_path / "run").returncode == 0
    (whole,) = unbroken.glob("small/seqft-*/seed0")
    assert contents(tmp_path / "run") == contents(whole)


def test_a_claim_keeps_other_comparisons_out_and_is_no_foreign_file(tmp_path: Path) -> None:
    mine, theirs = Share(tmp_path / "run"), Share(tmp_path / "run")
    assert theirs.holder() is None
    assert mine.take()
    assert not theirs.take() and theirs.holder() is not None

    mine.release()

    assert theirs.take()
    assert json.loads((tmp_path / "run" / f"{CLAIM}-2").read_text())["pid"] == os.getpid()
    theirs.release()


def test_whoever_works_at_a_run_keeps_comparisons_from_it(tmp_path: Path) -> None:
    work = Lease(tmp_path / LEASE)
    work.take()
    share = Share(tmp_path)

    assert not share.take()

    work.release()
    assert share.take()
    share.release()
