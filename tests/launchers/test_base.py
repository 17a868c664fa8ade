"""Launchers by name, the command of a job, and why a run failed."""

import sys
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Job, make_launcher, why
from hpa_bench.launchers.local import Local
from hpa_bench.spec import RunOptions, make_spec


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(make_spec(RunOptions("tiny", "seqft")), tmp_path / "seed0", tmp_path / "seed0.log")


def test_a_job_is_a_run_of_this_python_that_reads_its_spec(job: Job) -> None:
    head = [sys.executable, "-m", "hpa_bench", "run", "--spec"]
    tail = ["--out", str(job.folder), "--device", "auto", "--no-report"]

    assert job.command() == [*head, "-", *tail]
    assert job.command("a b.json") == [*head, "a b.json", *tail]


def test_a_job_names_its_device(job: Job) -> None:
    command = Job(job.spec, job.folder, job.log, "cpu").command()

    assert command[command.index("--device") + 1] == "cpu"


@pytest.mark.parametrize(
    ("text", "settings", "slots"),
    [("local", {}, 0), ("local:slots=2", {}, 2), ("local", {"slots": 3}, 3), ("local:slots=2", {"slots": 3}, 2)],
)
def test_a_launcher_by_name_and_options(text: str, settings: dict[str, int], slots: int) -> None:
    launcher = make_launcher(text, **settings)

    assert type(launcher) is Local and launcher.config.slots == slots


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("locl", "Unknown launcher 'locl'. Did you mean 'local'? Available: local, ray, slurm."),
        (
            "local:slot=2",
            "Unknown key 'slot' of launcher 'local'. Did you mean 'slots'? Available: gpus, gpus_per_run, slots.",
        ),
        ("local:slots", "Bad setting 'slots': expected key=value."),
        ("local:slots=-1", "Bad value for slots of launcher 'local': Input should be greater than or equal to 0"),
        ("local:slots=few", "Bad value for slots of launcher 'local': Input should be a valid integer"),
    ],
)
def test_no_such_launcher_or_option(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_launcher(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("code", "printed", "reason"),
    [
        (0, b"Error: not the end", ""),
        (-9, b"Error: not the end", "ended by signal 9"),
        (2, b"step 1\nError: no such task.\n\n", "no such task."),
        (1, b"KeyError: 'a'", "KeyError: 'a'"),
        (1, b"torn \xff\n", "torn \ufffd"),
        (137, b"", "exit status 137"),
        (1, b" \n\n", "exit status 1"),
        (1, b"Error: no such task.\ntorch...ChildFailedError:\n  exitcode : 2\n=====\n", "no such task."),
    ],
)
def test_why_a_run_failed(code: int, printed: bytes, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(printed)

    assert why(code, log) == reason


def test_what_an_earlier_attempt_printed_is_no_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"Error: an old one\nError: a new one\n")

    assert why(2, log, len(b"Error: an old one\n")) == "a new one"
    assert why(2, log, log.stat().st_size) == "exit status 2"
