"""Accuracy against safety: a point a method, its name beside it, the front drawn; for READMEs and for papers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hpa_bench.metrics import METRICS
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import REFERENCES, Group
from hpa_bench.report.kinds import COLOURS, KINDS, MARKERS, kind_of
from hpa_bench.report.labels import Label, drawn, place
from hpa_bench.report.noise import Spread
from hpa_bench.report.ranking import front
from hpa_bench.results.measures import Cell

SOFT = "#56616b"
FRONT = "Pareto front"
FLOOR = "± 2 sd of noise runs"
LONGEST = 30
"""Letters of a name beside its point."""
BENT_TICKS = (0, 1, 2, 5, 10, 20, 40, 60, 80, 100)
CROWD = 6
"""From so many methods on, the axis of MASR is bent where most of them are in its lowest quarter."""


class Point(NamedTuple):
    """A method in the plane."""

    group: Group
    x: Cell
    y: Cell
    best: bool
    """Whether no other method beats it in one number without losing in the other."""

    @property
    def kind(self) -> str:
        """Of method."""
        return kind_of(self.group)

    @property
    def matters(self) -> bool:
        """Whether it is named where there is no room for all."""
        return self.best or self.group.method in REFERENCES or self.group.label in ("seqft", "hpa")


def draw_plane(figure: Figure, condition: Condition, size: float, columns: int, everyone: bool = True) -> None:
    """Draw AP against MASR into an empty figure, with light 95% intervals and, around noise runs, two sds of them.

    Args:
        figure: of its size; it is laid out here.
        condition: the methods.
        size: of a marker, in points.
        columns: of the legend of kinds.
        everyone: whether all methods have names, or those that matter alone.
    """
    axes = figure.subplots()
    points = _points(condition)
    _frame(axes, points)
    best = sorted((point.x.value, point.y.value) for point in points if point.best)
    style: Any = {"where": "pre", "color": SOFT, "lw": 0.16 * size, "ls": (0, (4, 2))}
    axes.step([x for x, _ in best], [y for _, y in best], label=FRONT, zorder=1.6, **style)
    _floors(axes, condition, points)
    for point in sorted(points, key=lambda point: point.matters):
        x, y, colour = point.x.value, point.y.value, COLOURS[point.kind][0]
        bars: Any = {"color": colour, "lw": 0.13 * size, "alpha": 0.28, "solid_capstyle": "butt"}
        axes.plot([point.x.low, point.x.high], [y, y], **bars)
        axes.plot([x, x], [point.y.low, point.y.high], **bars)
        filled = point.best and point.group.method not in REFERENCES
        look: Any = {"marker": MARKERS[point.kind], "ms": size, "mew": 0.2 * size, "ls": "none", "clip_on": False}
        axes.plot(x, y, color=colour, mfc=colour if filled else "white", zorder=3, **look)
    for axis, series in zip((axes.xaxis, axes.yaxis), plane(condition), strict=True):
        metric = METRICS[series.metric]
        axis.set_label_text(f"{metric.title}, %  ({metric.better} is better)")
    _legend(figure, axes, points, size, columns)
    named = [point for point in points if everyone or point.matters]
    others = [(point.x.value, point.y.value) for point in points if point not in named]
    place(figure, axes, _labels(named), others)


def _points(condition: Condition) -> list[Point]:
    best = front(condition)
    accuracy, safety = plane(condition)
    found = [(group, group.final(accuracy), group.final(safety)) for group in condition.main]
    return [Point(group, x, y, group in best) for group, x, y in found if isinstance(x, Cell) and isinstance(y, Cell)]


def _labels(points: Sequence[Point]) -> list[Label]:
    """Return the names, those that matter first, so that they have the places nearest to their points."""
    ordered = sorted(points, key=lambda point: (not point.matters, not point.best))
    found = []
    for point in ordered:
        text = drawn(point.group.label)
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        strong = point.group.method == "hpa" and point.group.is_default
        found.append(Label(text, point.x.value, point.y.value, strong))
    return found


def _frame(axes: Axes, points: Sequence[Point]) -> None:
    """Show the points with room for their names, and MASR from 0 on; a long interval may leave the frame."""
    xs, ys = [point.x.value for point in points] or [0.0], [point.y.value for point in points] or [0.0]
    room = 0.1 * max(max(xs) - min(xs), 5)
    axes.set_xlim(min(xs) - room, max(xs) + room)
    top = 1.12 * max(ys) + 1
    bottom = -0.05 * top  # Names of points at 0 stand above the axis.
    if len(ys) >= CROWD and 2 * sum(y < top / 4 for y in ys) > len(ys):
        # Where most crowd near 0, square roots give them room and still hold 0.
        axes.set_yscale("function", functions=(_root, _squared))
        axes.set_yticks([at for at in BENT_TICKS if at <= top])
        bottom = _squared(0.05 * _root(-top))
    axes.set_ylim(bottom, top)


def _root(values: Any) -> Any:
    return np.sign(values) * np.sqrt(np.abs(values))


def _squared(values: Any) -> Any:
    return np.sign(values) * np.square(values)


def _floors(axes: Axes, condition: Condition, points: Sequence[Point]) -> None:
    """Draw boxes of two sds of the noise runs to each side of their methods' points."""
    places = {point.group.label: (point.x.value, point.y.value) for point in points}
    label = FLOOR
    for floor in condition.noise:
        wide, high = (floor.spread(series) for series in plane(condition))
        if floor.label in places and isinstance(wide, Spread) and isinstance(high, Spread):
            x, y = places[floor.label]
            bottom = max(0.0, y - 2 * high.sd)
            size = 4 * wide.sd, y + 2 * high.sd - bottom
            axes.add_patch(Rectangle((x - 2 * wide.sd, bottom), *size, fc=SOFT, alpha=0.2, lw=0, label=label))
            label = "_nolegend_"


def _legend(figure: Figure, axes: Axes, points: Sequence[Point], size: float, columns: int) -> None:
    there = {point.kind for point in points}
    for kind in (kind for kind in KINDS if kind in there):
        look: Any = {"marker": MARKERS[kind], "ms": size, "mew": 0.2 * size, "ls": "none", "mfc": "white"}
        axes.plot([], [], color=COLOURS[kind][0], label=KINDS[kind], **look)
    handles, names = axes.get_legend_handles_labels()
    # The kinds first, then the front and the floor.
    order = sorted(range(len(names)), key=lambda index: names[index] in (FRONT, FLOOR))
    figure.legend(
        [handles[index] for index in order],
        [names[index] for index in order],
        loc="outside lower center",
        ncols=min(columns, len(names)),
        columnspacing=1.3,
        handletextpad=0.4,
    )
