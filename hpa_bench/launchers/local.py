"""Runs as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from hpa_bench.launchers.base import Job, Launcher, LauncherConfig, why
from hpa_bench.machine.device import sees_gpu


class LocalConfig(LauncherConfig):
    """Options of `local`."""

    slots: int = Field(0, ge=0, le=1024)
    """Runs at a time; 0: one on a GPU, else one a core."""


@dataclass(frozen=True)
class _Started:
    process: subprocess.Popen[bytes]
    log: Path


class Local(Launcher):
    """Start runs on this machine, a few at a time, the cores shared out."""

    name: ClassVar[str] = "local"
    Config: ClassVar[type[LauncherConfig]] = LocalConfig

    def room(self, device: str) -> int:
        """Return the slots; whether there is a GPU takes an import of torch to know."""
        return self.config.slots or (1 if sees_gpu(device) else os.cpu_count() or 1)

    def submit(self, job: Job) -> _Started:
        """Start a process that reads the spec from its standard input."""
        threads = {} if job.threads is None else {"OMP_NUM_THREADS": str(job.threads)}
        # A file, not a pipe: writing never waits for a process that is still importing.
        with job.log.open("wb") as log, tempfile.TemporaryFile() as spec:
            spec.write(job.spec.to_json().encode())
            spec.seek(0)
            process = subprocess.Popen(
                job.command(), stdin=spec, stdout=log, stderr=subprocess.STDOUT, env=os.environ | threads
            )
        return _Started(process, job.log)

    def poll(self, handle: _Started) -> str | None:
        """Return None while the process lives, then why it failed."""
        code = handle.process.poll()
        return None if code is None else why(code, handle.log)

    def cancel(self, handle: _Started) -> None:
        """Terminate the process."""
        handle.process.terminate()
        handle.process.wait()
