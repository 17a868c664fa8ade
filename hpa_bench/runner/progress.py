"""Live progress of a run, or of an alignment, on the terminal: the stage, the step and the time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hpa_bench.runner.events import (
    Adapting,
    AlignmentStarted,
    Event,
    Failed,
    Finished,
    Generating,
    Observer,
    RunStarted,
    StageFinished,
    StageStarted,
    TrainStep,
    Warned,
)

if TYPE_CHECKING:
    from rich.console import Console

STEP_SHARE = {"train": 0.45, "adapt": 0.1, "evaluate": 0.45}
"""Rough share of a stage's time that each step takes; it only steers the estimate of the time left."""
PARTS = 10
"""Of an alignment, which has one stage alone, so many lines where there is no terminal."""
SILENCE = 60.0
"""Seconds after which an alignment says where it is, also within one of its parts."""


class Progress(Observer):
    """Shows a bar on a terminal, and one line a stage, or a tenth of an alignment, elsewhere."""

    name = "progress"

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Any = None
        self._aligning = False

    def observe(self, event: Event) -> None:
        """Show what has changed."""
        match event:
            case RunStarted():
                self._say(f"engine {event.engine} ({event.why})", "dim")
                self._stages = len(event.stages)
                self._open_bar(event.finished, self._stages + 1)
            case AlignmentStarted():
                self._aligning = True
                self._spent, self._taken, self._said = 0.0, 0, time.perf_counter()
                self._say(f"aligning {event.model} on {', '.join(event.tasks)}", "dim")
                self._open_bar(0, 1)
            case StageStarted():
                self._stage, self._title = event.stage, " + ".join(event.tasks) or "aligned model"
                self._stage_started = time.perf_counter()
            case TrainStep():
                self._step(event)
            case Adapting():
                self._show("adapt", 0, 1)
            case Generating():
                self._show("evaluate", event.done, event.total)
            case Warned():
                self._say(event.text, "red")
            case StageFinished():
                self._sum_up(event)
            case Finished() | Failed():
                self._close_bar()

    def _sum_up(self, event: StageFinished) -> None:
        """Say in one line where a stage's time went."""
        from rich.text import Text

        spent = time.perf_counter() - self._stage_started
        left = self._stages - event.stage
        eta = f", ETA {left * spent:.0f} s" if left else ""
        own = {step: seconds - event.shared.get(step, 0.0) for step, seconds in event.seconds.items()}
        taken = {"shared": sum(event.shared.values())}
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in (own | taken).items() if seconds >= 0.05)
        said = f"stage {event.stage}/{self._stages} {self._title}: {spent:.1f} s "
        self._console.print(Text.assemble(said, (f"({steps}{eta})", "dim")))

    def _say(self, text: str, style: str) -> None:
        self._console.print(text, style=style, highlight=False, markup=False)

    def _step(self, event: TrainStep) -> None:
        if not self._aligning:
            self._show("train", event.done, event.total)
        elif self._bar is not None:
            self._bar.update(self._task, completed=event.done / event.total, description=_aligned(event))
        else:
            self._tell(event)

    def _tell(self, event: TrainStep) -> None:
        """Say where an alignment is, and when it will be done: after each part, and after a minute without a word."""
        self._spent, self._taken = self._spent + event.seconds, self._taken + 1
        now, left = time.perf_counter(), self._spent / self._taken * (event.total - event.done)
        part = event.done * PARTS // event.total > (event.done - 1) * PARTS // event.total
        if part or now - self._said > SILENCE:
            self._said = now
            self._say(f"{_aligned(event)}, loss {event.loss:.3g}, ETA {left:.0f} s", "dim")

    def _open_bar(self, finished: int, total: int) -> None:
        if not self._console.is_terminal:
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TextColumn("ETA"))
        self._bar = Bar(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task = self._bar.add_task("starting", total=total, completed=finished)
        self._bar.start()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, step: str, done: int, total: int) -> None:
        """Move the bar to `done` of `total` units of a step of the stage."""
        if self._bar is None:
            return
        names = list(STEP_SHARE)
        earlier = sum(STEP_SHARE[name] for name in names[: names.index(step)])
        within = earlier + STEP_SHARE[step] * done / max(total, 1)
        text = f"stage {self._stage}/{self._stages} {self._title} · {step} {done}/{total}"
        self._bar.update(self._task, completed=self._stage + within, description=text)


def _aligned(event: TrainStep) -> str:
    return f"align · step {event.done}/{event.total}"
