"""Texts in figures: what the font can draw, and names beside points, where they cover no other name and no point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patheffects import withStroke

from hpa_bench.redact import clean

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that figures are the same everywhere."""
DISTANCES = (3.0, 6.0, 10.0, 16.0, 24.0, 34.0, 46.0)
"""How far from its point a name may begin, in points, nearest first."""
TURNS = 16
"""Directions that are tried at each distance."""
FAR = 6.0
"""From here on a line leads from the name to its point."""
MARKER = 3.0
"""Half the side of what a marker covers, in points."""

Box = tuple[float, float, float, float]
"""Left, low, right, high; in pixels."""


class Label(NamedTuple):
    """A name and its point, in data coordinates."""

    text: str
    x: float
    y: float
    strong: bool = False


def drawn(text: str) -> str:
    """Return a text as a figure has it: clean, and of a letter that the font lacks its number, such as \\u65b9."""
    return "".join(each if each in "\n\t" or ord(each) in _letters() else _spelled(each) for each in clean(text))


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def _spelled(letter: str) -> str:
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def lay_out(figure: Figure, dpi: float | None = None) -> None:
    """Lay a figure out once for all: what is drawn of it later, as PNG, SVG or PDF, stands where it does now.

    Args:
        figure: complete but for what its layout does not see.
        dpi: dots per inch, at which texts are measured; by default the figure's own.
    """
    engine, before = figure.get_layout_engine(), figure.dpi
    if engine is not None:
        figure.dpi = before if dpi is None else dpi
        engine.execute(figure)
        figure.set_layout_engine(None)
        figure.dpi = before


def place(figure: Figure, axes: Axes, labels: Sequence[Label], points: Sequence[tuple[float, float]] = ()) -> None:
    """Write each name at the nearest place at which it covers nothing, or else the least.

    Args:
        figure: complete but for the names; it is laid out here, once for all.
        axes: of the points.
        labels: the most important first.
        points: further points that no name may cover, in data coordinates.
    """
    lay_out(figure)
    pixels = figure.dpi / 72
    frame = axes.get_window_extent()
    inside = (frame.x0, frame.y0, frame.x1, frame.y1)
    where = [(one.x, one.y) for one in labels]
    centres = axes.transData.transform([*where, *points]).tolist() if labels or points else []
    half = MARKER * pixels
    taken: list[Box] = [(x - half, y - half, x + half, y + half) for x, y in centres]
    for label, centre in zip(labels, centres, strict=False):
        style: Any = {"ha": "left", "va": "bottom", "path_effects": [withStroke(linewidth=1.8, foreground="white")]}
        style["fontweight"] = "bold" if label.strong else "normal"
        note = axes.annotate(label.text, (label.x, label.y), (0, 0), textcoords="offset points", zorder=5, **style)
        note.set_in_layout(False)
        extent = note.get_window_extent()
        distance, right, up, box = _best((extent.width, extent.height), centre, pixels, taken, inside)
        taken.append(box)
        note.set_position((right, up))
        if distance >= FAR:
            middle = axes.transData.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            axes.plot([label.x, middle[0]], [label.y, middle[1]], color="#8c8c8c", lw=0.5, zorder=1.5)


def _best(
    size: tuple[float, float], centre: Sequence[float], pixels: float, taken: Sequence[Box], inside: Box
) -> tuple[float, float, float, Box]:
    """Return the first place at which a box of a size covers nothing, or the one at which it covers the least."""
    wide, high = size
    found, least = None, math.inf
    for distance, right, up in _offsets(wide / pixels, high / pixels):
        left, low = centre[0] + right * pixels, centre[1] + up * pixels
        box = (left, low, left + wide, low + high)
        cost = sum(_common(box, other) for other in taken) + 10 * (wide * high - _common(box, inside))
        if cost < least:
            found, least = (distance, right, up, box), cost
        if cost < 1e-6:
            break
    assert found is not None
    return found


def _offsets(width: float, height: float) -> Iterator[tuple[float, float, float]]:
    """Yield places of a box of a size around a point: how far, and where its lower left corner is; in points."""
    for distance in DISTANCES:
        for turn in (0, 2, 14, 8, 4, 12, 6, 10, 1, 15, 3, 13, 5, 11, 7, 9):
            angle = 2 * math.pi * turn / TURNS
            across, along = math.cos(angle), math.sin(angle)
            x, y = (distance + MARKER) * across, (distance + MARKER) * along
            # The box stands on the side of the point to which it is moved.
            yield distance, x - width * (1 - across) / 2, y - height * (1 - along) / 2


def _common(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0
