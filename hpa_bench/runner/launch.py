"""Runs that are wanted together: what is missing of them is handed to a launcher, and waited for."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpa_bench.errors import UserError
from hpa_bench.files import read_text
from hpa_bench.launchers.base import Job, Launcher
from hpa_bench.machine.stopping import Asked, Stopped, stops_noted
from hpa_bench.redact import clean
from hpa_bench.results.run_folder import FAILED, HELD, MANIFEST, START_AGAIN, RunFolder, set_aside
from hpa_bench.runner.events import LOG, EventLog, Failed, Planned, last_event
from hpa_bench.runner.manifest import planned_manifest, sources
from hpa_bench.runner.sharing import Share
from hpa_bench.spec import RunSpec


def missing(wanted: Mapping[Path, RunSpec], again: bool = False) -> dict[Path, RunSpec]:
    """Return those of the wanted runs, by their folders, that are not finished.

    Args:
        wanted: runs by their folders.
        again: set aside what was made before its model's files or its plugin changed, and count it as missing.

    Raises:
        UserError: there is such a run, and it is not to be made again.
    """
    for folder, spec in wanted.items():
        if change := _changed(folder, spec):
            if not again:
                raise UserError(f"{folder} was made before, and {change}: {START_AGAIN}.")
            set_aside(RunFolder(folder))
    todo = {folder: spec for folder, spec in wanted.items() if not finished(folder)}
    for folder in wanted.keys() - todo.keys():
        (folder / FAILED).unlink(missing_ok=True)  # A comparison may have given it up before another finished it.
    return todo


def _changed(folder: Path, spec: RunSpec) -> str:
    """Return what has changed since a run was made, in words; "" where nothing has, or there is no run."""
    if not (folder / MANIFEST).exists() or (manifest := RunFolder(folder).manifest).planned:
        return ""
    # A model of the hub is looked at by its run, which fetches it.
    names = spec.suite.model_path(), spec.unaligned_path()
    now = sources(spec, *(_here(name) if name else None for name in names))
    return manifest.changed_source(manifest.model_copy(update=now))


def _here(model: str) -> Path | None:
    return folder if (folder := Path(model).expanduser()).is_dir() else None


def launch(
    wanted: Mapping[Path, RunSpec],
    launcher: Launcher,
    device: str = "auto",
    watch: Callable[[Launching], None] = lambda _: None,
    made: Callable[[Path], bool] | None = None,
    track: str | None = None,
) -> Iterator[tuple[Path, str]]:
    """Have runs made, as many at a time as the launcher has room for; those that another process makes are waited for.

    Args:
        wanted: the runs by their folders; in each, what an earlier attempt finished is kept.
        launcher: who starts them.
        device: cpu, cuda, or "auto" for a GPU where there is one.
        watch: called again and again while runs are on their way.
        made: whether a run is made, by its folder; by default where the folder holds it, finished.
        track: the tracker that is told of each run, as of `--track`.

    Yields:
        The folder of each run as it ends, and why it failed, or "" where it finished. The reason is by then in the
        folder, where a report finds it.

    Raises:
        Stopped: somebody has asked for it; nothing of these runs is running any more.
    """
    if wanted:
        launcher.check(device)
        yield from Launching(wanted, launcher, device, watch, made or finished, track).ends()


class Launching:
    """Runs on their way.

    Args:
        wanted: as of `launch`, as are the others.
        launcher: who starts them.
        device: cpu, cuda, or "auto".
        watch: is called again and again.
        made: whether a run is made.
        track: the tracker.
    """

    def __init__(
        self,
        wanted: Mapping[Path, RunSpec],
        launcher: Launcher,
        device: str,
        watch: Callable[[Launching], None],
        made: Callable[[Path], bool],
        track: str | None,
    ) -> None:
        self._launcher = launcher
        self._watch = watch
        self._made = made
        launcher.expect(len(wanted))
        room = launcher.room(device)
        self.at_once = len(wanted) if room is None else min(room, len(wanted))
        """How many may run at a time."""
        threads = None if room is None else max(1, (os.cpu_count() or 1) // self.at_once)
        self._jobs = {
            folder: Job(spec, folder, folder.with_suffix(".log"), device, threads, track)
            for folder, spec in wanted.items()
        }
        self._shares = {folder: Share(folder) for folder in wanted}
        self.waiting = deque(wanted)
        """What is still to be started."""
        self.running: dict[Path, Any] = {}
        """What is started, by a handle of the launcher's."""
        self.elsewhere: list[Path] = []
        """What another process has in hand."""
        self._full_until = 0.0
        self._asked = Asked()
        for folder, spec in wanted.items():
            if self._shares[folder].holder() is None and last_event(folder / LOG) != "planned":
                folder.mkdir(parents=True, exist_ok=True)
                EventLog(folder).observe(Planned(suite=spec.suite.name, method=spec.method.name, seed=spec.seed))

    def ends(self) -> Iterator[tuple[Path, str]]:
        """Start runs, wait for them, and yield each as `launch` does."""
        with stops_noted() as self._asked:
            try:
                while self._asked.number is None and (self.waiting or self.running or self.elsewhere):
                    for step in (self._start, self._poll, self._look_elsewhere):
                        for folder, reason in step():
                            yield folder, reason
                            self._shares[folder].release()  # Whoever waits for it finds what was made of it.
                    self._watch(self)
                    self._sleep()
                if self._asked.number is not None:
                    raise Stopped(self._asked.number)
            finally:
                self._launcher.cancel_together([*self.running.values()])
                for share in self._shares.values():
                    share.release()

    def _start(self) -> Iterator[tuple[Path, str]]:
        if time.monotonic() < self._full_until:
            return
        chosen: list[Path] = []
        while self.waiting and len(self.running) + len(chosen) < self.at_once and self._asked.number is None:
            folder = self.waiting.popleft()
            if not self._shares[folder].take():
                self.elsewhere.append(folder)
            elif self._made(folder):  # Another process has made it since it was planned.
                yield folder, ""
            else:
                self._jobs[folder].log.parent.mkdir(parents=True, exist_ok=True)
                (folder / FAILED).unlink(missing_ok=True)
                chosen.append(folder)
        if not chosen:
            return
        handles = self._launcher.submit_together([self._jobs[folder] for folder in chosen])
        self.running.update(zip(chosen, handles, strict=False))
        if left := chosen[len(handles) :]:
            for folder in left:
                self._shares[folder].release()
            self.waiting.extendleft(reversed(left))
            self._full_until = time.monotonic() + self._launcher.full_seconds

    def _poll(self) -> Iterator[tuple[Path, str]]:
        for folder, handle in list(self.running.items()):
            if (reason := self._launcher.poll(handle)) is None:
                continue
            del self.running[folder]
            if HELD in reason:
                # By somebody's own `hpa-bench run`, or by whoever has taken over what seemed dead.
                self._shares[folder].release()
                self.elsewhere.append(folder)
                continue
            if reason:
                self._record(folder, reason)
            yield folder, reason

    def _record(self, folder: Path, reason: str) -> None:
        """Leave the reason where reports and the log of the run's events have it."""
        spec = self._jobs[folder].spec
        RunFolder(folder).record_failure(planned_manifest(spec, spec.stages), reason)
        if last_event(folder / LOG) not in ("failed", "finished"):
            EventLog(folder).observe(Failed(reason=clean(reason)))

    def _look_elsewhere(self) -> Iterator[tuple[Path, str]]:
        for folder in list(self.elsewhere):
            if self._shares[folder].holder() is not None:
                continue
            self.elsewhere.remove(folder)
            if self._made(folder):
                yield folder, ""
            elif (folder / FAILED).exists():
                yield folder, read_text(folder / FAILED)
            else:  # Its holder was stopped, or is dead.
                self.waiting.append(folder)

    def _sleep(self) -> None:
        until = time.monotonic() + self._launcher.poll_seconds
        while self._asked.number is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


def finished(folder: Path) -> bool:
    """Whether a folder holds a run with all its stages."""
    run = RunFolder(folder)
    return (folder / MANIFEST).exists() and len(run.finished_stages()) == len(run.manifest.stages) + 1
