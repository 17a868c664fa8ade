"""Names beside the points of a figure, each where it covers no other name and no point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

DISTANCES = (3.0, 6.0, 10.0, 16.0, 24.0, 34.0, 46.0)
"""How far from its point a name may begin, in points, nearest first."""
TURNS = 16
"""Directions that are tried at each distance."""
FAR = 6.0
"""From here on a line leads from the name to its point."""
MARKER = 3.0
"""Half the side of what a marker covers, in points."""


class Label(NamedTuple):
    """A name and its point, in data coordinates."""

    text: str
    x: float
    y: float


def place(figure: Figure, axes: Axes, labels: Sequence[Label], points: Sequence[tuple[float, float]] = ()) -> None:
    """Write each name at the nearest place at which it covers nothing, or else the least.

    Args:
        figure: complete but for the names; it is laid out here, and nothing may move the axes afterwards.
        axes: of the points.
        labels: the most important first.
        points: further points that no name may cover, in data coordinates.
    """
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    inside = axes.get_window_extent()
    marks = [_around(axes, x, y, MARKER * pixels) for x, y in [*((one.x, one.y) for one in labels), *points]]
    taken: list[Bbox] = []
    for label in labels:
        style: Any = {"ha": "left", "va": "bottom", "path_effects": [withStroke(linewidth=1.8, foreground="white")]}
        note = axes.annotate(label.text, (label.x, label.y), (0, 0), textcoords="offset points", zorder=5, **style)
        note.set_in_layout(False)
        at_point = note.get_window_extent()
        centre = axes.transData.transform((label.x, label.y))
        size = at_point.width, at_point.height
        offsets = list(_offsets(size[0] / pixels, size[1] / pixels))
        costs = []
        for offset in offsets:
            left, low = centre[0] + offset[1] * pixels, centre[1] + offset[2] * pixels
            box = Bbox.from_bounds(left, low, *size)
            cost = _covered(box, [*taken, *marks]) + 10 * (size[0] * size[1] - _common(box, inside))
            costs.append((cost, box, offset))
            if cost == 0:
                break
        _, box, (distance, right, up) = min(costs, key=lambda found: found[0])
        taken.append(box)
        note.set_position((right, up))
        if distance >= FAR:
            middle = axes.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
            axes.plot([label.x, middle[0]], [label.y, middle[1]], color="#8c8c8c", lw=0.5, zorder=1.5)


def _offsets(width: float, height: float) -> Iterator[tuple[float, float, float]]:
    """Yield places of a box of a size around a point: how far, and where its lower left corner is; in points."""
    for distance in DISTANCES:
        for turn in (0, 2, 14, 8, 4, 12, 6, 10, 1, 15, 3, 13, 5, 11, 7, 9):
            angle = 2 * math.pi * turn / TURNS
            across, along = math.cos(angle), math.sin(angle)
            x, y = (distance + MARKER) * across, (distance + MARKER) * along
            # The box stands on the side of the point to which it is moved.
            yield distance, x - width * (1 - across) / 2, y - height * (1 - along) / 2


def _around(axes: Axes, x: float, y: float, half: float) -> Bbox:
    centre = axes.transData.transform((x, y))
    return Bbox.from_extents(centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half)


def _covered(box: Bbox, others: Sequence[Bbox]) -> float:
    return sum(_common(box, other) for other in others)


def _common(one: Bbox, other: Bbox) -> float:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide * high if wide > 0 and high > 0 else 0.0
