"""What a launcher is: whoever starts runs, here or elsewhere, and knows when they have ended."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hpa_bench.config import BaseConfig, parse, split_settings
from hpa_bench.registry import Registry
from hpa_bench.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """One run to be started."""

    spec: RunSpec
    folder: Path
    """The run's own folder."""
    log: Path
    """The file that what the run prints is added to; its folder exists."""
    device: str = "auto"
    """cpu, cuda, or "auto" for a GPU where there is one."""
    threads: int | None = None
    """Threads for its arithmetic; None leaves it to the launcher."""
    track: str | None = None
    """The tracker that is told of it, as of `--track`."""

    def command(self, spec: str = "-", processes: int = 1) -> list[str]:
        """Return the command that makes the run.

        Args:
            spec: the file that holds `spec.to_json()`; "-": standard input does.
            processes: so many share the run, one a GPU, started by accelerate; they take a file.
        """
        run = ["-m", "hpa_bench", "run", "--spec", spec, "--out", str(self.folder)]
        run += ["--device", self.device, "--no-report", *(["--track", self.track] if self.track else [])]
        if processes == 1:
            return [sys.executable, *run]
        # All said, so that a user's own accelerate configuration, made for other programs, changes nothing.
        together = ["--multi_gpu", "--num_machines", "1", "--num_processes", str(processes)]
        together += ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
        return [sys.executable, "-m", "accelerate.commands.launch", *together, *run]


class LauncherConfig(BaseConfig):
    """Options of a launcher: frozen, unknown keys refused."""


class Launcher(ABC):
    """Starts runs, each in a process of its own, that end with the exit status of `hpa-bench run`."""

    name: ClassVar[str]
    """As on the command line; the entry point has the same name."""
    Config: ClassVar[type[LauncherConfig]] = LauncherConfig
    poll_seconds: ClassVar[float] = 0.1
    """How long to wait between two looks at what is running."""
    full_seconds: ClassVar[float] = 30.0
    """How long to wait before a queue that was full is tried again."""

    def __init__(self, config: LauncherConfig | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()

    def check(self, device: str) -> None:  # noqa: B027
        """Refuse what cannot work, before the first job: not installed, not reachable, no such partition.

        Args:
            device: as in `Job`.

        Raises:
            UserError: one sentence on what is wrong.
        """

    def expect(self, jobs: int) -> None:  # noqa: B027
        """Hear how many jobs are to come, before the first; some may turn out to be made by then.

        Args:
            jobs: at most so many are submitted.
        """

    @abstractmethod
    def room(self, device: str) -> int | None:
        """Return how many jobs may share this machine at a time, or None where jobs wait in a queue elsewhere.

        Args:
            device: as in `Job`.
        """

    @abstractmethod
    def submit(self, job: Job) -> Any:
        """Start a job, or put it into the queue, and return a handle for the other methods."""

    def submit_together(self, jobs: Sequence[Job]) -> list[Any]:
        """Start jobs and return their handles, in order; fewer than jobs where the queue has no room for the rest."""
        return [self.submit(job) for job in jobs]

    @abstractmethod
    def poll(self, handle: Any) -> str | None:
        """Return None until the job has ended, then why it failed in one sentence, or "" where it finished."""

    @abstractmethod
    def cancel(self, handle: Any) -> None:
        """End a job, and return when it has ended."""

    def cancel_together(self, handles: Sequence[Any]) -> None:
        """End jobs, and return when all have ended."""
        for handle in handles:
            self.cancel(handle)


launchers: Registry[Launcher] = Registry("launcher", "hpa_bench.launchers", Launcher)  # type: ignore[type-abstract]


def make_launcher(text: str, **settings: Any) -> Launcher:
    """Return the launcher that the command line names, as in `local:slots=2`.

    Args:
        text: a registered name, options after colons.
        settings: further options; those in `text` come first.

    Raises:
        UserError: no such launcher or option.
    """
    name, own = split_settings(text)
    launcher = launchers.get(name)
    return launcher(parse(launcher.Config, settings | own, f"of launcher {name!r}"))


def why(code: int, log: Path, start: int = 0) -> str:
    """Return why a run failed, from its exit status and what it printed; "" where it finished.

    Args:
        code: the exit status; below zero, the number of the signal that ended it.
        log: what it printed.
        start: bytes of the log that an earlier attempt printed.
    """
    if code == 0:
        return ""
    if code < 0:  # Its last line is whatever it was doing.
        return f"ended by signal {-code}"
    lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    # What starts several processes adds a report of its own below the first one's sentence.
    said = [line for line in lines if line.startswith("Error: ")] if "ChildFailedError" in "".join(lines) else []
    last = (said or lines or [""])[-1]
    return last.removeprefix("Error: ") or f"exit status {code}"
