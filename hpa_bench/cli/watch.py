"""How runs that are on their way are shown: a table that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpa_bench.runner.watching import STATES, RunLog, all_left, now

TERMINAL_SECONDS, LINES_SECONDS = 1.0, 60.0
"""How long what is shown stays."""


class View:
    """Shows runs, again and again.

    Args:
        console: where to.
        seconds: between two times; by default often on a terminal and once a minute elsewhere.
    """

    def __init__(self, console: Console, seconds: float | None = None) -> None:
        self._console = console
        self._seconds = seconds or (TERMINAL_SECONDS if console.is_terminal else LINES_SECONDS)
        self._live: Live | None = None
        self._shown = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[View]:
        """Keep the lower end of a terminal for what changes."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            self._shown = float("-inf")
            yield self
        self._live = None

    def show(self, logs: Callable[[], Sequence[RunLog]], at_once: int | None = None) -> None:
        """Show runs, if it is time to.

        Args:
            logs: returns them, waiting ones included; called only when it is time.
            at_once: how many run at a time; None: as many as do now.
        """
        if time.monotonic() - self._shown < self._seconds:
            return
        found = logs()
        for log in found:
            log.update()
        if self._live is not None:
            self._live.update(Group(Text(summary(found, at_once)), table(found)), refresh=True)
        else:
            for line in (summary(found, at_once), *(going(log) for log in found if log.state == "running")):
                say(line, self._console)
        self._shown = time.monotonic()


def say(text: str, console: Console) -> None:
    """Print a line as it is."""
    console.print(text, highlight=False, markup=False)


def summary(logs: Sequence[RunLog], at_once: int | None = None) -> str:
    """Return how many runs are where, and when all will be done."""
    states = [log.state for log in logs]
    counts = ", ".join(f"{count} {state}" for state in STATES if (count := states.count(state)))
    if not {"running", "waiting"} & {*states}:
        return counts or "no run"
    running = [log for log, state in zip(logs, states, strict=True) if state in ("running", "waiting", "done")]
    left = all_left(running, at_once or states.count("running"), now()) if at_once or "running" in states else None
    return f"{counts}; all done in {duration(left)}"


def going(log: RunLog) -> str:
    """Return a run that is on its way in one line."""
    parts = [f"{log.name}, seed {log.seed_name}", *(part for part in (_stage(log), _step(log), _loss(log)) if part)]
    where = f" on {log.host}" if log.host else ""
    return f"{', '.join(parts)}, ETA {duration(log.left(now()))}{where}"


def scores(log: RunLog) -> str:
    """Return a finished run's AP and MASR; "" where it has none."""
    known = (("AP", log.scores.get("accuracy")), ("MASR", log.scores.get("masr")))
    return ", ".join(f"{name} {value:.1f}" for name, value in known if value is not None)


def ended(log: RunLog) -> str:
    """Return a run that is not on its way in one line."""
    state = log.state
    more = scores(log) if state == "done" else log.reason if state == "failed" else ""
    return f"{log.name}, seed {log.seed_name}: {state}{f', {more}' if more else ''}"


def table(logs: Sequence[RunLog]) -> Table:
    """Return a table of the runs that are on their way."""
    found = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("method", "seed", "stage", "step", "loss", "ETA", "host"):
        found.add_column(name, no_wrap=True)
    for log in logs:
        if log.state == "running":
            cells = (log.name, log.seed_name, _stage(log).removeprefix("stage "), _step(log))
            loss = _loss(log).removeprefix("loss ")
            found.add_row(*(Text(cell) for cell in (*cells, loss, duration(log.left(now())), log.host)))
    return found


def duration(seconds: float | None) -> str:
    """Return seconds as hours, minutes and seconds; "?" where nobody knows."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _stage(log: RunLog) -> str:
    return f"stage {log.course.stage.index}/{log.course.stages}" if log.course.stage else ""


def _step(log: RunLog) -> str:
    stage = log.course.stage
    if stage is None:
        return "set-up"
    if stage.answered is not None:
        return f"evaluate {stage.answered[0]}/{stage.answered[1]}"
    if stage.trained is not None:
        return "adapt"
    return f"train {stage.step[0]}/{stage.step[1]}" if stage.step else ""


def _loss(log: RunLog) -> str:
    training = log.course.stage is not None and log.course.stage.trained is None and log.course.stage.loss is not None
    return f"loss {log.course.stage.loss:.3g}" if training and log.course.stage else ""
