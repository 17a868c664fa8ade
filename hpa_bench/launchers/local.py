"""Runs as processes of this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Job, Launcher, LauncherConfig, why
from hpa_bench.launchers.warm import Process, starts
from hpa_bench.machine.device import sees_gpu
from hpa_bench.machine.numerics import PORTABLE

GRACE_SECONDS = 10.0
"""How long a run that is told to end has for it; a killed one loses no more than one that ends."""


class LocalConfig(LauncherConfig):
    """Options of `local`."""

    slots: int = Field(0, ge=0, le=1024)
    """Runs at a time; 0: one for each share of `gpus`, else one on a GPU, else one a core."""
    gpus: tuple[str, ...] = ()
    """The GPUs to share out, as CUDA_VISIBLE_DEVICES names them: 0-7, or 0,2,5."""
    gpus_per_run: int = Field(1, ge=1, le=64)
    """GPUs of a run; several share it by accelerate."""

    @field_validator("gpus", mode="before")
    @classmethod
    def _each(cls, value: Any) -> Any:
        parts = value if isinstance(value, list | tuple) else str(value).split(",")
        found: list[str] = []
        for part in (str(part).strip() for part in parts):
            first, last = ranged.groups() if (ranged := re.fullmatch(r"(\d{1,4})-(\d{1,4})", part)) else (part, part)
            found += [part] if not ranged else [str(number) for number in range(int(first), int(last) + 1)]
        if not all(found) or len({*found}) < max(1, len(found)):
            raise ValueError(f"gpus is {value!r}: expected different GPUs, as in 0-7 or 0,2,5")
        return tuple(found)

    @model_validator(mode="after")
    def _shares(self) -> LocalConfig:
        if self.gpus and len(self.gpus) < self.gpus_per_run:
            raise ValueError(f"gpus_per_run is {self.gpus_per_run}, and gpus names {len(self.gpus)}")
        if self.gpus and self.slots > len(self.gpus) // self.gpus_per_run:
            raise ValueError(f"slots is {self.slots}, and the {len(self.gpus)} GPUs have no share for each")
        return self


@dataclass(frozen=True)
class _Started:
    process: Process
    log: Path
    start: int
    """Bytes that earlier attempts have printed."""
    spec: Path | None
    """A file to remove in the end."""


class Local(Launcher):
    """Start runs on this machine, a few at a time, the cores shared out."""

    name: ClassVar[str] = "local"
    Config: ClassVar[type[LauncherConfig]] = LocalConfig

    def __init__(self, config: LauncherConfig | None = None) -> None:
        super().__init__(config)
        size, gpus = self.config.gpus_per_run, self.config.gpus
        self._shares = [gpus[at : at + size] for at in range(0, len(gpus) - size + 1, size)]
        self._taken: dict[_Started, tuple[str, ...]] = {}
        self._expected = 1

    def check(self, device: str) -> None:
        """Refuse GPUs where there are none."""
        if (self.config.gpus or self.config.gpus_per_run > 1) and device != "cpu" and not sees_gpu(device):
            raise UserError(
                "launch.gpus shares out GPUs, and torch finds none here: leave it out, or check the driver"
                " (nvidia-smi)."
            )

    def room(self, device: str) -> int:
        """Return the slots; whether there is a GPU takes an import of torch to know."""
        return self.config.slots or len(self._shares) or (1 if sees_gpu(device) else os.cpu_count() or 1)

    def expect(self, jobs: int) -> None:
        """Note it, since what jobs are forked from is worth its start for several."""
        self._expected = jobs

    def submit(self, job: Job) -> _Started:
        """Start a process that reads the spec from its standard input; several of one run read it from a file."""
        environment = dict(os.environ)
        if job.threads is not None:
            environment["OMP_NUM_THREADS"] = str(job.threads)
        if share := next((share for share in self._shares if share not in self._taken.values()), ()):
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(share)
        processes, file = self.config.gpus_per_run, None
        if processes > 1:
            file = job.folder.with_suffix(".spec.json")
            file.write_text(job.spec.to_json(), encoding="utf-8")
        command = job.command() if file is None else job.command(str(file), processes)
        # A file, not a pipe: writing never waits for a process that is still importing.
        with job.log.open("ab") as log, tempfile.TemporaryFile() as spec:
            spec.write(job.spec.to_json().encode())
            spec.seek(0)
            start = log.tell()
            if processes == 1:
                # What is started chooses its kernels before it loads torch, which is loaded in what is forked.
                pinned = PORTABLE if job.spec.suite.numerics == "portable" else {}
                alike = self._expected // max(1, len(self._shares))
                process = starts.start(command, environment | pinned, spec, log, alike)
            else:
                process = Process(command, environment, spec, log)
        started = _Started(process, job.log, start, file)
        self._taken[started] = share
        return started

    def poll(self, handle: _Started) -> str | None:
        """Return None while the process lives, then why it failed."""
        if (code := handle.process.poll()) is None:
            return None
        self._clear(handle)
        return why(code, handle.log, handle.start)

    def cancel(self, handle: _Started) -> None:
        """End the process and its children."""
        self.cancel_together([handle])

    def cancel_together(self, handles: Sequence[_Started]) -> None:
        """Tell processes to end, and kill what has not ended in time."""
        for handle in handles:
            handle.process.signal(signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        for handle in handles:
            with suppress(subprocess.TimeoutExpired):
                handle.process.wait(max(0.0, until - time.monotonic()))
        for handle in handles:
            handle.process.signal(signal.SIGKILL)
            handle.process.wait()
            self._clear(handle)
        if handles:  # Whoever cancels may end by a signal, and is to leave nothing.
            starts.close_idle()

    def _clear(self, handle: _Started) -> None:
        self._taken.pop(handle, None)
        if handle.spec is not None:
            handle.spec.unlink(missing_ok=True)
