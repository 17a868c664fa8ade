"""A run as a node of a cluster makes it: plain text that travels, and a child process there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from pydantic import Field

from hpa_bench.launchers.base import Job, LauncherConfig, why
from hpa_bench.machine.stopping import die_with
from hpa_bench.machine.versions import differences, versions

SPEC = "{spec}"
"""In a command, the place of the file that the node writes the spec to."""
GRACE_SECONDS = 10.0
"""How long a run that is told to end has for it."""
LOOK_SECONDS = 0.2
"""How often to look whether a run has ended."""


class ClusterConfig(LauncherConfig):
    """Options of every launcher whose runs are made on other machines."""

    cpus: int = Field(1, ge=1, le=4096)
    """CPU cores of a run, and threads of its arithmetic."""
    gpus: int | None = Field(None, ge=0, le=64)
    """GPUs of a run; several share it by accelerate. Unset: one with `--device cuda`, else none."""
    versions: Literal["same", "any"] = "same"
    """`same` refuses a node whose packages are of other versions than here; `any`: a run's manifest has its own."""

    def gpus_of(self, device: str) -> int:
        """Return the GPUs of a run on a device."""
        return self.gpus if self.gpus is not None else int(device == "cuda")


@dataclass
class NodeRun:
    """One run, made where it is called."""

    arguments: list[str]
    """Of Python, with `SPEC` in place of the file that holds the spec."""
    spec: str
    """As `RunSpec.to_json` wrote it."""
    log: str
    """What the run prints is added to this file."""
    threads: int
    versions: Mapping[str, str] | None
    """The versions that must be installed here; None takes any."""
    attempts: int | None = None
    """How often it may be begun; None: as often as it takes."""
    token: str = field(default_factory=lambda: uuid4().hex[:8])
    """Tells its attempts from other jobs' in the log."""
    process: Any = field(default=None, compare=False)
    """The run's process, while it lives."""

    @classmethod
    def of(cls, job: Job, config: ClusterConfig, attempts: int | None = None) -> NodeRun:
        """Return a job in this form."""
        _, *arguments = job.command(SPEC, max(1, config.gpus_of(job.device)))
        folder, absolute = str(job.folder), str(job.folder.absolute())
        return cls(
            [absolute if part == folder else part for part in arguments],
            job.spec.to_json(),
            str(job.log.absolute()),
            job.threads or config.cpus,
            versions() if config.versions == "same" else None,
            attempts,
        )

    def __call__(self) -> str:
        """Make the run, or go on with it, and return why it failed, with this node's name; "" where it finished."""
        try:
            reason = self._refusal() or self._made()
        except OSError as error:  # The log's folder is not there, or not to be written, on this node.
            reason = (
                f"{error.filename or self.log} cannot be written ({error.strerror or error}): every node must have the"
                " folder of the runs under this path, with room in it"
            )
        return f"{reason.removesuffix('.')} (on node {socket.gethostname()})" if reason else ""

    def end(self) -> None:
        """End the run's process, if there is one: it is told to, and killed where it does not."""
        if self._is_over():
            return
        os.kill(self.process.pid, signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while not self._is_over():
            if time.monotonic() > until:
                os.kill(self.process.pid, signal.SIGKILL)
            time.sleep(0.05)

    def _is_over(self) -> bool:
        """Whether there is no living process of the run.

        It is left to whoever waits for it: a signal handler may call this while the same thread is inside `Popen.wait`,
        and would wait for ever for the lock that this holds.
        """
        if self.process is None or self.process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _refusal(self) -> str:
        found = differences(self.versions) if self.versions is not None else ""
        return found and (
            f"other versions are installed there, {found}: install the same, or give --set launch.versions=any"
        )

    def _made(self) -> str:
        log = Path(self.log)
        with log.open("ab") as printed, tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as spec:
            attempt = 1 + log.read_text(encoding="utf-8", errors="replace").count(self.token)
            if self.attempts is not None and attempt > self.attempts:
                return f"lost {self.attempts} times with its node or worker, as where memory runs out"
            printed.write(f"Attempt {attempt} of job {self.token}, on node {socket.gethostname()}\n".encode())
            printed.flush()
            start = printed.tell()
            spec.write(self.spec)
            spec.flush()
            self.process = subprocess.Popen(
                [sys.executable, *(spec.name if part == SPEC else part for part in self.arguments)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(self.threads)},
                preexec_fn=partial(_tied, os.getpid()),
            )
            try:
                # Ray cancels by an interrupt that no signal comes with, so that no system call would end for it.
                while not self._is_over():
                    time.sleep(LOOK_SECONDS)
                code = self.process.wait()
            finally:
                self.end()
        reason = why(code, log, start)
        killed = code == -signal.SIGKILL
        return f"{reason}, as where memory runs out: give it more, or lower the batch sizes" if killed else reason


def _tied(parent: int) -> None:
    """Let a run die with whoever started it, since a second attempt elsewhere would find its folder in use."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # By it Slurm warns whoever started the run, who ends it.
    die_with(parent)
