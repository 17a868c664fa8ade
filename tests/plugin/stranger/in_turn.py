"""A stranger's launcher."""

import subprocess
from pathlib import Path
from typing import ClassVar

from hpa_bench import Job, Launcher, LauncherConfig


class InTurnConfig(LauncherConfig):
    """Options of InTurn."""

    journal: str = "journal.txt"
    """The file that takes two lines a job: when it begins and when it has ended."""


class _Started:
    def __init__(self, job: Job, process: "subprocess.Popen[bytes]") -> None:
        self.job = job
        self.process = process


class InTurn(Launcher):
    """Starts one run after another, and keeps a journal of them."""

    name: ClassVar[str] = "in_turn"
    Config: ClassVar[type[LauncherConfig]] = InTurnConfig

    def room(self, device: str) -> int:
        """Return 1: no two runs are to be alive at once."""
        return 1

    def submit(self, job: Job) -> _Started:
        """Start a process that reads the spec from a file beside the log."""
        spec = job.log.with_suffix(".json")
        spec.write_text(job.spec.to_json(), encoding="utf-8")
        with job.log.open("wb") as log:
            process = subprocess.Popen(job.command(str(spec)), stdout=log, stderr=subprocess.STDOUT)
        self._note("begun", job)
        return _Started(job, process)

    def poll(self, handle: _Started) -> str | None:
        """Return None while the process lives, then where to read why it failed."""
        code = handle.process.poll()
        if code is None:
            return None
        self._note(f"ended with {code}", handle.job)
        return f"exit status {code}: see {handle.job.log}" if code else ""

    def cancel(self, handle: _Started) -> None:
        """Terminate the process."""
        handle.process.terminate()
        self._note(f"cancelled with {handle.process.wait()}", handle.job)

    def _note(self, what: str, job: Job) -> None:
        with Path(self.config.journal).open("a", encoding="utf-8") as file:
            file.write(f"{what} {job.folder.name}\n")
