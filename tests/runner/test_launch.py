"""Who is started when, and what is left of what failed, with a launcher whose jobs end when the test says."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Job, Launcher
from hpa_bench.machine.lease import Lease
from hpa_bench.machine.stopping import SIGNALS, Stopped
from hpa_bench.results.run_folder import CLAIM, FAILED, HELD, LEASE, MANIFEST, RunFolder
from hpa_bench.runner.launch import launch, missing
from hpa_bench.runner.manifest import planned_manifest
from hpa_bench.spec import RunOptions, RunSpec, make_spec


class Scripted(Launcher):
    """Ends each job at its second poll, with the reason that the test gives for its folder's name."""

    name: ClassVar[str] = "scripted"
    poll_seconds: ClassVar[float] = 0.0

    def __init__(self, room: int | None, reasons: Mapping[str, str] = {}) -> None:
        super().__init__()
        self._room = room
        self._reasons = reasons
        self.jobs: list[Job] = []
        self.polls: dict[int, int] = {}
        self.most = 0
        self.cancelled: list[int] = []

    def room(self, device: str) -> int | None:
        return self._room

    def submit(self, job: Job) -> int:
        self.jobs.append(job)
        self.polls[len(self.jobs) - 1] = 0
        self.most = max(self.most, sum(count < 2 for count in self.polls.values()))
        return len(self.jobs) - 1

    def poll(self, handle: int) -> str | None:
        self.polls[handle] += 1
        return None if self.polls[handle] < 2 else self._reasons.get(self.jobs[handle].folder.name, "")

    def cancel(self, handle: int) -> None:
        self.cancelled.append(handle)


def wanted(folder: Path, count: int = 5) -> dict[Path, RunSpec]:
    return {folder / f"seed{seed}": make_spec(RunOptions("tiny", "seqft", seed)) for seed in range(count)}


def finish(path: Path, spec: RunSpec) -> None:
    """Write what a finished run leaves, as far as `launch` looks."""
    folder = RunFolder(path)
    planned_manifest(spec, spec.stages).write(path / MANIFEST)
    for index in range(len(spec.stages) + 1):
        folder.stage(index).finish({})


@pytest.mark.parametrize(("room", "most"), [(2, 2), (9, 5), (None, 5)])
def test_no_more_run_at_a_time_than_there_is_room_for(room: int | None, most: int, tmp_path: Path) -> None:
    launcher, runs = Scripted(room), wanted(tmp_path / "runs")

    assert dict(launch(runs, launcher, "cpu")) == dict.fromkeys(runs, "")
    assert launcher.most == most
    assert [(job.folder, job.spec, job.device) for job in launcher.jobs] == [(*item, "cpu") for item in runs.items()]


@pytest.mark.parametrize(("room", "threads"), [(1, 8), (2, 4), (3, 2), (9, 1), (None, None)])
def test_the_cores_are_shared_out(
    room: int | None, threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    launcher = Scripted(room)
    list(launch(wanted(tmp_path), launcher))

    assert {job.threads for job in launcher.jobs} == {threads if room != 9 else 8 // 5}


def test_a_failure_is_left_in_its_folder_and_ends_nothing(tmp_path: Path) -> None:
    runs = wanted(tmp_path, 3)
    ended = dict(launch(runs, Scripted(1, {"seed1": "no equation today"})))

    assert ended == dict.fromkeys(runs, "") | {tmp_path / "seed1": "no equation today"}
    failed = RunFolder(tmp_path / "seed1")
    assert (failed.path / FAILED).read_text() == "no equation today"
    assert failed.manifest.planned and failed.manifest.said() == {
        **planned_manifest(runs[failed.path], runs[failed.path].stages).said(),
        "planned": True,
    }
    assert not (tmp_path / "seed0" / MANIFEST).exists()


def test_an_earlier_failure_is_forgotten_when_a_run_starts(tmp_path: Path) -> None:
    runs = wanted(tmp_path, 1)
    list(launch(runs, Scripted(1, {"seed0": "first"})))
    list(launch(runs, Scripted(1, {"seed0": "second"})))

    assert (tmp_path / "seed0" / FAILED).read_text() == "second"


def test_what_still_runs_is_cancelled_when_nobody_waits_any_more(tmp_path: Path) -> None:
    launcher = Scripted(2)
    ends = launch(wanted(tmp_path, 3), launcher)
    next(ends)
    ends.close()  # type: ignore[attr-defined]

    assert launcher.cancelled == [1]
    assert len(launcher.jobs) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_what_runs_and_starts_nothing(number: int, tmp_path: Path) -> None:
    class Stopping(Scripted):
        def poll(self, handle: int) -> str | None:
            if sum(self.polls.values()) == 0:
                os.kill(os.getpid(), number)
            return super().poll(handle)

    launcher = Stopping(2)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(Stopped) as stopped:
            list(launch(wanted(tmp_path, 3), launcher, "cpu"))
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)

    assert stopped.value.number == number
    assert len(launcher.jobs) == 2 and launcher.cancelled == [0, 1]
    assert not list(tmp_path.rglob(FAILED))


def test_a_finished_run_is_not_missing(tmp_path: Path) -> None:
    runs = wanted(tmp_path, 3)
    for seed, stages in ((0, 7), (1, 6)):
        folder = RunFolder(tmp_path / f"seed{seed}")
        planned_manifest(runs[folder.path], runs[folder.path].stages).write(folder.path / MANIFEST)
        for index in range(stages):
            folder.stage(index).finish({})

    assert [*missing(runs)] == [tmp_path / "seed1", tmp_path / "seed2"]


@pytest.mark.parametrize("name", [CLAIM, LEASE])
def test_what_another_has_in_hand_is_waited_for(name: str, tmp_path: Path) -> None:
    runs, launcher = wanted(tmp_path, 2), Scripted(2)
    theirs = Lease(tmp_path / "seed0" / name)
    theirs.take()
    ends = launch(runs, launcher, "cpu")
    assert next(ends) == (tmp_path / "seed1", "")

    finish(tmp_path / "seed0", runs[tmp_path / "seed0"])
    theirs.release()

    assert list(ends) == [(tmp_path / "seed0", "")]
    assert [job.folder.name for job in launcher.jobs] == ["seed1"]


def test_how_it_failed_elsewhere_is_told_and_not_tried_again(tmp_path: Path) -> None:
    runs, launcher = wanted(tmp_path, 2), Scripted(2)
    theirs = Lease(tmp_path / "seed0" / CLAIM)
    theirs.take()
    ends = launch(runs, launcher, "cpu")
    next(ends)

    RunFolder(tmp_path / "seed0").record_failure(planned_manifest(runs[tmp_path / "seed0"], []), "no equation today")
    theirs.release()

    assert list(ends) == [(tmp_path / "seed0", "no equation today")]
    assert [job.folder.name for job in launcher.jobs] == ["seed1"]


def test_what_another_has_given_up_is_taken_over(tmp_path: Path) -> None:
    launcher = Scripted(2)
    theirs = Lease(tmp_path / "seed0" / CLAIM)
    theirs.take()
    ends = launch(wanted(tmp_path, 2), launcher, "cpu")
    next(ends)

    theirs.release()

    assert list(ends) == [(tmp_path / "seed0", "")]
    assert [job.folder.name for job in launcher.jobs] == ["seed1", "seed0"]


def test_a_run_that_another_kept_from_starting_has_not_failed(tmp_path: Path) -> None:
    class Late(Scripted):
        """Whose job finds the run held by somebody's own command, which then finishes it."""

        def poll(self, handle: int) -> str | None:
            reason = super().poll(handle)
            if reason == "":
                finish(self.jobs[handle].folder, self.jobs[handle].spec)
                return f"it {HELD} (process 1 on a): wait for it."
            return reason

    assert dict(launch(wanted(tmp_path, 1), Late(1), "cpu")) == {tmp_path / "seed0": ""}
    assert not list(tmp_path.rglob(FAILED))


def test_what_was_made_since_it_was_planned_is_not_made_again(tmp_path: Path) -> None:
    runs, launcher = wanted(tmp_path, 1), Scripted(1)
    finish(tmp_path / "seed0", runs[tmp_path / "seed0"])

    assert dict(launch(runs, launcher, "cpu")) == {tmp_path / "seed0": ""}
    assert launcher.jobs == []


def test_a_finished_run_has_not_failed(tmp_path: Path) -> None:
    runs = wanted(tmp_path, 1)
    finish(tmp_path / "seed0", runs[tmp_path / "seed0"])
    (tmp_path / "seed0" / FAILED).write_text("given up")

    assert missing(runs) == {}
    assert not list(tmp_path.rglob(FAILED))


def test_nothing_missing_asks_the_launcher_nothing(tmp_path: Path) -> None:
    class Silent(Scripted):
        def room(self, device: str) -> int | None:
            raise AssertionError("asked")

    assert list(launch({}, Silent(1))) == []


def test_what_a_full_queue_does_not_take_is_tried_again_in_order(tmp_path: Path) -> None:
    class Full(Scripted):
        full_seconds: ClassVar[float] = 0.0

        def submit_together(self, jobs: Sequence[Job]) -> list[int]:
            return [self.submit(job) for job in jobs[:2]] if len(self.jobs) < 4 else super().submit_together(jobs)

    launcher, runs = Full(None), wanted(tmp_path / "runs")

    assert dict(launch(runs, launcher)) == dict.fromkeys(runs, "")
    assert [job.folder for job in launcher.jobs] == [*runs]


def test_what_cannot_work_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    class Absent(Scripted):
        def check(self, device: str) -> None:
            raise UserError(f"no such launcher on {device}")

    with pytest.raises(UserError, match="no such launcher on cpu"):
        list(launch(wanted(tmp_path / "runs", 1), Absent(None), "cpu"))
    assert not (tmp_path / "runs").exists()


def test_a_job_that_was_killed_elsewhere_has_failed_and_is_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Node(Scripted):
        """Whose job takes the run's lease as another machine's, and is killed."""

        def submit(self, job: Job) -> int:
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr("hpa_bench.machine.lease.this_machine", lambda: "a node")
                Lease(job.folder / LEASE).take()
            return super().submit(job)

    launcher = Node(1, {"seed0": "ended by signal 9"})

    assert dict(launch(wanted(tmp_path, 1), launcher, "cpu")) == {tmp_path / "seed0": "ended by signal 9"}
    assert len(launcher.jobs) == 1
