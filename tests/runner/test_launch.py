"""Who is started when, and what is left of what failed, with a launcher whose jobs end when the test says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Job, Launcher
from hpa_bench.results.run_folder import FAILED, MANIFEST, RunFolder
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
    assert not (tmp_path / "seed0").exists()


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


def test_an_interrupt_waits_for_what_runs_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Scripted):
        def poll(self, handle: int) -> str | None:
            if sum(self.polls.values()) == 0:
                self.polls[handle] += 1
                raise KeyboardInterrupt
            return super().poll(handle)

    launcher = Interrupted(2)
    with pytest.raises(KeyboardInterrupt):
        list(launch(wanted(tmp_path, 3), launcher))

    assert len(launcher.jobs) == 2 and all(count >= 2 for count in launcher.polls.values())
    assert launcher.cancelled == []


def test_a_finished_run_is_not_missing(tmp_path: Path) -> None:
    runs = wanted(tmp_path, 3)
    for seed, stages in ((0, 7), (1, 6)):
        folder = RunFolder(tmp_path / f"seed{seed}")
        planned_manifest(runs[folder.path], runs[folder.path].stages).write(folder.path / MANIFEST)
        for index in range(stages):
            folder.stage(index).finish({})

    assert [*missing(runs)] == [tmp_path / "seed1", tmp_path / "seed2"]


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


def test_an_interrupt_ends_what_waits_in_a_queue_elsewhere(tmp_path: Path) -> None:
    class Interrupted(Scripted):
        def poll(self, handle: int) -> str | None:
            raise KeyboardInterrupt

    launcher = Interrupted(None)
    with pytest.raises(KeyboardInterrupt):
        list(launch(wanted(tmp_path, 3), launcher))

    assert launcher.cancelled == [0, 1, 2]


def test_what_cannot_work_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    class Absent(Scripted):
        def check(self, device: str) -> None:
            raise UserError(f"no such launcher on {device}")

    with pytest.raises(UserError, match="no such launcher on cpu"):
        list(launch(wanted(tmp_path / "runs", 1), Absent(None), "cpu"))
    assert not (tmp_path / "runs").exists()
