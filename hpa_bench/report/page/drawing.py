"""The figures of a page: which there are, and drawing them beside it, where they are many in other processes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from hpa_bench.report import figures
from hpa_bench.report.conditions import Condition
from hpa_bench.report.overlap import overlap_figure
from hpa_bench.report.page.cells import slug
from hpa_bench.report.plasticity import match, plasticity_figure
from hpa_bench.report.ranking import front, shown_groups
from hpa_bench.results.tuned import Tuned

EACH = 4
"""Tasks for which another process is worth its start."""
TRIALS = "trials"


class Planned(NamedTuple):
    """A figure that is to be drawn."""

    name: str
    """Of its files."""
    draw: Callable[[], Figure | None]
    """Returns None where the numbers do not make one."""
    dark: bool = False
    """Whether its SVG file has dark colours, too."""

    def save(self, folder: Path) -> str:
        """Draw it, write its files and return it for use inside HTML; "" where there is none."""
        figure = self.draw()
        return figures.save(figure, folder, self.name, self.dark) if figure else ""


def figures_of(condition: Condition, prefix: str) -> list[Planned]:
    """Return the figures of a condition, those that take longest in front.

    Of the first condition all are written, of others accuracy against safety: drawing takes most of a report's time,
    and the page shows the curves and matrices of each.

    Args:
        condition: the condition.
        prefix: what the names of its files begin with; "" of the first.
    """
    shown_groups(condition), front(condition)  # Found before processes are forked, which ask for them, each.
    found = [
        Planned(f"{prefix}{name}", partial(draw, condition), dark=name == figures.AGAINST)
        for name, draw in figures.page_figures(condition, curves=not prefix).items()
    ]
    if (matched := match(condition)) is not None:
        found.append(Planned(f"{prefix}matched-plasticity", partial(plasticity_figure, matched)))
    found.append(Planned(f"{prefix}column-overlap", partial(overlap_figure, condition)))
    found += [
        Planned(f"{prefix}{keep_rate_name(method)}", partial(figures.keep_rate, groups, condition))
        for method, groups in condition.settings.items()
    ]
    matrices = [group for group in condition.references if any(run.stages for run in group.runs)]
    return found + [
        Planned(f"accuracy-matrix-{slug(group.label)}", partial(figures.accuracy_matrix, group, condition))
        for group in ([] if prefix else matrices)
    ]


def trials(tuned: Tuned, prefix: str) -> Planned:
    """Return the figure of the trials that tuned settings were chosen from; the prefix is of its file's name."""
    return Planned(f"{prefix}{TRIALS}", partial(figures.trial_fronts, tuned))


def keep_rate_name(method: str) -> str:
    """Return what the files of a method's sweep over its keep rate are called, without a prefix."""
    return f"keep-rate-{slug(method)}"


_tasks: list[Callable[[], Any]] = []
"""What processes that are forked from this one do: they have its numbers without being sent them."""


@contextmanager
def beside(tasks: Mapping[str, Callable[[], Any]]) -> Iterator[Callable[[], Mapping[str, Any]]]:
    """Do something while the body runs; what the body is given waits for it and returns each result by its name.

    Args:
        tasks: by name, those that take longest in front. Where they are few, or this process cannot be forked, they are
            done when they are waited for.
    """
    count = min(_cores(), len(tasks) // EACH)
    if count < 2 or not _can_fork():
        yield lambda: {name: task() for name, task in tasks.items()}
        return
    _tasks[:] = tasks.values()
    gc.freeze()  # Else a collection in a child would write to each of this process's objects, and so copy them all.
    try:
        with ProcessPoolExecutor(count, mp_context=get_context("fork")) as pool:
            waited = {name: pool.submit(_do, place) for place, name in enumerate(tasks)}

            def wait() -> Mapping[str, Any]:
                try:
                    return {name: future.result() for name, future in waited.items()}
                except BrokenProcessPool:  # One was killed, as where memory ran out: they are done one by one here.
                    return {name: task() for name, task in tasks.items()}

            yield wait
    finally:
        gc.unfreeze()
        _tasks.clear()


def _do(place: int) -> Any:
    return _tasks[place]()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _can_fork() -> bool:
    """Whether a copy of this process works: on Linux, and where no torch has threads that a copy would lack."""
    return sys.platform == "linux" and "torch" not in sys.modules
