"""Runs that are wanted together: what is missing of them is handed to a launcher, and waited for."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Job, Launcher
from hpa_bench.results.run_folder import FAILED, MANIFEST, START_AGAIN, RunFolder, set_aside
from hpa_bench.runner.manifest import planned_manifest, sources
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
    return {folder: spec for folder, spec in wanted.items() if not _finished(folder)}


def _changed(folder: Path, spec: RunSpec) -> str:
    """Return what has changed since a run was made, in words; "" where nothing has, or there is no run."""
    if not (folder / MANIFEST).exists() or (manifest := RunFolder(folder).manifest).planned:
        return ""
    model = Path(spec.suite.model_path()).expanduser()
    # A model of the hub is looked at by its run, which fetches it.
    now = sources(spec, model if model.is_dir() else None)
    return manifest.changed_source(manifest.model_copy(update=now))


def launch(wanted: Mapping[Path, RunSpec], launcher: Launcher, device: str = "auto") -> Iterator[tuple[Path, str]]:
    """Have runs made, as many at a time as the launcher has room for.

    Args:
        wanted: the runs by their folders; in each, what an earlier attempt finished is kept.
        launcher: who starts them.
        device: cpu, cuda, or "auto" for a GPU where there is one.

    Yields:
        The folder of each run as it ends, and why it failed, or "" where it finished. The reason is by then in the
        folder, where a report finds it.
    """
    if not wanted:
        return
    launcher.check(device)
    room = launcher.room(device)
    at_once = len(wanted) if room is None else min(room, len(wanted))
    threads = None if room is None else max(1, (os.cpu_count() or 1) // at_once)
    waiting = deque(Job(spec, folder, folder.with_suffix(".log"), device, threads) for folder, spec in wanted.items())
    running: dict[Path, Any] = {}
    full_until = 0.0
    try:
        while waiting or running:
            if waiting and len(running) < at_once and time.monotonic() >= full_until:
                jobs = [waiting.popleft() for _ in range(min(at_once - len(running), len(waiting)))]
                handles = _submitted(jobs, launcher)
                running.update(zip((job.folder for job in jobs), handles, strict=False))
                if left := jobs[len(handles) :]:
                    waiting.extendleft(reversed(left))
                    full_until = time.monotonic() + launcher.full_seconds
            for folder, handle in list(running.items()):
                if (reason := launcher.poll(handle)) is not None:
                    del running[folder]
                    _record(folder, wanted[folder], reason)
                    yield folder, reason
            if running or waiting:
                time.sleep(launcher.poll_seconds)
    except KeyboardInterrupt:
        # The terminal has interrupted those of this machine as well: they end by themselves, and close what they have
        # opened.
        while room is not None and any(launcher.poll(handle) is None for handle in running.values()):
            time.sleep(launcher.poll_seconds)
        if room is not None:
            running.clear()
        raise
    finally:
        launcher.cancel_together(list(running.values()))


def _submitted(jobs: Sequence[Job], launcher: Launcher) -> list[Any]:
    for job in jobs:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        (job.folder / FAILED).unlink(missing_ok=True)
    return launcher.submit_together(jobs)


def _record(folder: Path, spec: RunSpec, reason: str) -> None:
    if reason:
        RunFolder(folder).record_failure(planned_manifest(spec, spec.stages), reason)


def _finished(folder: Path) -> bool:
    run = RunFolder(folder)
    return (folder / MANIFEST).exists() and len(run.finished_stages()) == len(run.manifest.stages) + 1
