"""What a launcher is: whoever starts runs, here or elsewhere, and knows when they have ended."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
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
    """The file that takes what the run prints; its folder exists."""
    device: str = "auto"
    """cpu, cuda, or "auto" for a GPU where there is one."""
    threads: int | None = None
    """Threads for its arithmetic; None leaves it to the launcher."""

    def command(self, spec: str = "-") -> list[str]:
        """Return the command that makes the run.

        Args:
            spec: the file that holds `spec.to_json()`; "-": standard input does.
        """
        run = [sys.executable, "-m", "hpa_bench", "run", "--spec", spec, "--out", str(self.folder)]
        return [*run, "--device", self.device, "--no-report"]


class LauncherConfig(BaseConfig):
    """Options of a launcher: frozen, unknown keys refused."""


class Launcher(ABC):
    """Starts runs, each in a process of its own, that end with the exit status of `hpa-bench run`."""

    name: ClassVar[str]
    """As on the command line; the entry point has the same name."""
    Config: ClassVar[type[LauncherConfig]] = LauncherConfig
    poll_seconds: ClassVar[float] = 0.1
    """How long to wait between two looks at what is running."""

    def __init__(self, config: LauncherConfig | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()

    @abstractmethod
    def room(self, device: str) -> int | None:
        """Return how many jobs may share this machine at a time, or None where jobs wait in a queue elsewhere.

        Args:
            device: as in `Job`.
        """

    @abstractmethod
    def submit(self, job: Job) -> Any:
        """Start a job, or put it into the queue, and return a handle for the other methods."""

    @abstractmethod
    def poll(self, handle: Any) -> str | None:
        """Return None until the job has ended, then why it failed in one sentence, or "" where it finished."""

    @abstractmethod
    def cancel(self, handle: Any) -> None:
        """End a job, and return when it has ended."""


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


def why(code: int, log: Path) -> str:
    """Return why a run failed, from its exit status and what it printed; "" where it finished.

    Args:
        code: the exit status; below zero, the number of the signal that ended it.
        log: what it printed.
    """
    if code == 0:
        return ""
    if code < 0:  # Its last line is whatever it was doing.
        return f"ended by signal {-code}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else f"exit status {code}"
