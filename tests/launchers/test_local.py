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
from hpa_bench.spec import RunOptions, RunSpec, make_spec


class Shell(Job):
    """A job that runs a script instead of a method."""

    script: ClassVar[str] = ""

    def command(self, spec: str = "-") -> list[str]:
        return ["sh", "-c", self.script]


def shell(script: str, folder: Path, threads: int | None = None) -> Job:
    kind = type("Script", (Shell,), {"script": script})
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
