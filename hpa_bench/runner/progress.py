"""Live progress of a run: the stage, the step and the time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from hpa_bench.results.run_folder import StageFolder

STEP_SHARE = {"train": 0.45, "adapt": 0.1, "evaluate": 0.45}
"""Rough share of a stage's time that each step takes; it only steers the estimate of the time left."""


class Progress:
    """Shows a bar on a terminal, and one line a stage elsewhere; silent without a console."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._bar: Any = None
        self._stages = 1
        self._done = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def showing(self, stages: int, done: int) -> Iterator[None]:
        """Show progress while the block runs.

        Args:
            stages: how many stages there are, stage 0 included.
            done: how many were finished before.
        """
        self._stages = stages
        self._started = time.perf_counter()
        if self._console is None or not self._console.is_terminal:
            yield
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("ETA"))
        with Bar(*columns, TimeRemainingColumn(), console=self._console, transient=True) as bar:
            self._bar = bar
            self._task = bar.add_task("starting", total=stages, completed=done)
            yield
        self._bar = None

    def note(self, text: str) -> None:
        """Say something about the whole run in one line."""
        if self._console is not None:
            self._console.print(text, style="dim", highlight=False, markup=False)

    def stage(self, index: int, title: str) -> None:
        """Begin a stage."""
        self._index, self._title, self._done = index, title, 0.0
        self._stage_started = time.perf_counter()

    def step(self, name: str, done: int, total: int) -> None:
        """Report `done` of `total` units of a step of the stage: train, adapt or evaluate."""
        if self._bar is None:
            return
        earlier = 0.0
        for step, share in STEP_SHARE.items():
            if step == name:
                break
            earlier += share
        within = earlier + STEP_SHARE[name] * done / max(total, 1)
        text = f"stage {self._index}/{self._stages - 1} {self._title} · {name} {done}/{total}"
        self._bar.update(self._task, completed=self._index + within, description=text)

    def warn(self, text: str) -> None:
        """Say what goes wrong without ending the run."""
        if self._console is not None:
            self._console.print(text, style="red", highlight=False, markup=False)

    def stage_done(self, stage: StageFolder) -> None:
        """End a stage with one line that says where its time went."""
        if self._console is None:
            return
        spent = time.perf_counter() - self._stage_started
        left = self._stages - 1 - self._index
        eta = f", ETA {left * spent:.0f} s" if left else ""
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in stage.cost["seconds"].items() if seconds >= 0.05)
        self._console.print(
            f"stage {self._index}/{self._stages - 1} {self._title}: {spent:.1f} s [dim]({steps}{eta})[/dim]",
            highlight=False,
        )
