"""Real processes: a shell takes the place of a run."""

import json
import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import pytest

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Job, make_launcher
from hpa_bench.launchers.local import Local
from hpa_bench.machine.device import sees_gpu
from hpa_bench.machine.lease import _started
from hpa_bench.spec import RunOptions, RunSpec, make_spec


class Shell(Job):
    """A job that runs a script instead of a method."""

    script: ClassVar[str] = ""

    def command(self, spec: str = "-", processes: int = 1) -> list[str]:
        return ["sh", "-c", self.script.replace("{spec}", spec)]


def shell(script: str, folder: Path, threads: int | None = None) -> Job:
    kind = type("Script", (Shell,), {"script": script})
    folder.mkdir(exist_ok=True)
    job: Job = kind(make_spec(RunOptions("tiny", "seqft")), folder / "seed0", folder / "seed0.log", "cpu", threads)
    return job


def end(job: Job) -> str:
    launcher = Local()
    handle = launcher.submit(job)
    while (reason := launcher.poll(handle)) is None:
        time.sleep(0.01)
    return reason


def test_the_spec_comes_by_standard_input_and_what_is_printed_goes_to_the_log(tmp_path: Path) -> None:
    job = shell("cat; echo threads $OMP_NUM_THREADS >&2", tmp_path, threads=3)

    assert end(job) == ""
    text, _, threads = job.log.read_text().rpartition("threads")
    assert RunSpec.from_json(text) == job.spec
    assert threads.strip() == "3"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", ""),
        ("echo started; echo 'Error: no such thing.' >&2; exit 2", "no such thing."),
        ("printf 'not text \\377\\n'; exit 1", "not text \ufffd"),
        ("exit 3", "exit status 3"),
        ("echo working; kill -9 $$", "ended by signal 9"),
    ],
)
def test_why_a_run_failed(script: str, reason: str, tmp_path: Path) -> None:
    assert end(shell(script, tmp_path)) == reason


def test_a_cancelled_job_has_ended(tmp_path: Path) -> None:
    launcher = Local()
    handle = launcher.submit(shell("exec sleep 60", tmp_path))
    assert launcher.poll(handle) is None
    launcher.cancel(handle)

    assert launcher.poll(handle) == f"ended by signal {int(signal.SIGTERM)}"


def test_a_log_is_added_to_and_the_reason_is_of_the_last_attempt(tmp_path: Path) -> None:
    assert end(shell("echo Error: first; exit 1", tmp_path)) == "first"
    assert end(shell("exit 3", tmp_path)) == "exit status 3"

    assert (tmp_path / "seed0.log").read_text() == "Error: first\n"


def gone(pid: int) -> bool:
    until = time.monotonic() + 20
    while _started(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not _started(pid)


def children(log: Path, count: int = 1) -> list[int]:
    """The numbers of processes that jobs have written, once they are there."""
    until = time.monotonic() + 20
    while (len(found := log.read_text().split() if log.exists() else []) < count) and time.monotonic() < until:
        time.sleep(0.02)
    return [int(each) for each in found]


def test_a_cancelled_job_leaves_no_child(tmp_path: Path) -> None:
    launcher = Local()
    handle = launcher.submit(shell("sleep 60 & echo $!; wait", tmp_path))
    (child,) = children(tmp_path / "seed0.log")

    launcher.cancel(handle)

    assert gone(child)


def test_jobs_that_do_not_end_are_killed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpa_bench.launchers.local.GRACE_SECONDS", 0.5)
    launcher = Local()
    script = "trap '' TERM; echo $$; while :; do sleep 1; done"
    handles = [launcher.submit(shell(script, tmp_path / str(number))) for number in range(3)]
    for number in range(3):
        children(tmp_path / str(number) / "seed0.log")

    began = time.monotonic()
    launcher.cancel_together(handles)

    assert time.monotonic() - began < 5
    assert [launcher.poll(handle) for handle in handles] == [f"ended by signal {int(signal.SIGKILL)}"] * 3


def test_a_job_dies_with_whoever_started_it(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        Local().submit(shell("echo $$; sleep 60", tmp_path))
        time.sleep(60)
    (child,) = children(tmp_path / "seed0.log")

    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert gone(child)


def test_the_command_is_one_run_of_a_spec(tmp_path: Path) -> None:
    job = Job(make_spec(RunOptions("tiny", "seqft")), tmp_path / "run", tmp_path / "run.log", "cpu")

    assert job.command("spec.json")[1:] == [
        *("-m", "hpa_bench", "run", "--spec", "spec.json", "--out", str(tmp_path / "run")),
        *("--device", "cpu", "--no-report"),
    ]
    assert json.loads(job.spec.to_json())["method"] == "seqft"


def test_room() -> None:
    assert make_launcher("local:slots=3").room("cpu") == 3
    assert make_launcher("local", slots=2).room("cpu") == 2
    assert make_launcher("local:slots=3", slots=2).room("cpu") == 3
    assert make_launcher("local").room("cpu") == os.cpu_count()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("locale", r"Unknown launcher 'locale'\. Did you mean 'local'\?"),
        ("local:slot=2", r"Unknown key 'slot' of launcher 'local'\. Did you mean 'slots'\?"),
        ("local:slots=-1", r"Bad value for slots of launcher 'local'"),
    ],
)
def test_a_bad_launcher_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_launcher(text)


@pytest.mark.parametrize(
    ("given", "gpus"),
    [("0-3", ("0", "1", "2", "3")), ("0,2,5-6", ("0", "2", "5", "6")), (0, ("0",)), ("GPU-a", ("GPU-a",))],
)
def test_gpus_by_number_and_by_name(given: str | int, gpus: tuple[str, ...]) -> None:
    assert make_launcher("local", gpus=given).config.gpus == gpus


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpus": "3-0"}, "expected different GPUs, as in 0-7 or 0,2,5"),
        ({"gpus": "0,0"}, "expected different GPUs"),
        ({"gpus": "0,"}, "expected different GPUs"),
        ({"gpus": "0-2", "gpus_per_run": 4}, "gpus_per_run is 4, and gpus names 3"),
        ({"gpus": "0-3", "gpus_per_run": 2, "slots": 3}, "slots is 3, and the 4 GPUs have no share for each"),
    ],
)
def test_gpus_that_cannot_be_shared_out(settings: dict[str, str | int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_launcher("local", **settings)


def test_no_gpus_to_share_out() -> None:
    launcher = make_launcher("local:gpus=0-1")
    launcher.check("cpu")
    if not sees_gpu("auto"):
        with pytest.raises(UserError, match="launch.gpus shares out GPUs, and torch finds none here"):
            launcher.check("auto")


@pytest.mark.parametrize(("per_run", "shares"), [(1, ["0", "1", "2", "3"]), (2, ["0,1", "2,3"])])
def test_every_run_has_a_share_of_the_gpus_to_itself(per_run: int, shares: list[str], tmp_path: Path) -> None:
    launcher = make_launcher("local:gpus=0-3", gpus_per_run=per_run)
    assert launcher.room("cuda") == len(shares)
    started = []
    for number in range(len(shares)):
        (folder := tmp_path / str(number)).mkdir()
        job = shell("echo $CUDA_VISIBLE_DEVICES; exec sleep 60", folder)
        started.append((launcher.submit(job), job))
    while not all(job.log.exists() and job.log.read_text().strip() for _, job in started):
        time.sleep(0.01)
    launcher.cancel(started[0][0])
    again = shell("echo $CUDA_VISIBLE_DEVICES", tmp_path)
    handle = launcher.submit(again)
    while launcher.poll(handle) is None:
        time.sleep(0.01)
    for first, _ in started[1:]:
        launcher.cancel(first)

    assert [job.log.read_text().strip() for _, job in started[1:]] == shares[1:]
    assert again.log.read_text().strip() == shares[0]


def test_several_processes_of_one_run_read_its_spec_from_a_file(tmp_path: Path) -> None:
    launcher = make_launcher("local", gpus_per_run=2)
    job = shell("cat {spec}", tmp_path)
    handle = launcher.submit(job)
    while launcher.poll(handle) is None:
        time.sleep(0.01)

    assert RunSpec.from_json(job.log.read_text()) == job.spec
    assert not list(tmp_path.glob("*.json"))
