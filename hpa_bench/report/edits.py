"""What an edit of two checkpoints left, by layer: a table of its blocks, and a figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.table import Table

from hpa_bench.report.figures import COLOURS, MARKERS, STYLE, save
from hpa_bench.report.labels import drawn
from hpa_bench.results.manifest import EditedLayer, EditManifest

_BLOCK = re.compile(r"(?P<block>.+?\.(?P<index>\d+))\.(?P<layer>.+?)(\.weight)?$")
"""A weight inside a decoder block."""


def edit_table(record: EditManifest) -> Table:
    """Return what an edit left of the change, one row a decoder block; other weights have rows of their own."""
    table = Table("block", "weights", "columns kept", "norm left", title=f"{record.method}: what is left of the change")
    rows: dict[str, list[EditedLayer]] = {}
    for layer in record.layers:
        found = _BLOCK.match(layer.name)
        rows.setdefault(found["block"] if found else layer.name, []).append(layer)
    for name, layers in rows.items():
        columns = sum(layer.columns or 0 for layer in layers)
        kept = sum(layer.kept or 0 for layer in layers)
        norms = [layer.norm for layer in layers if layer.norm is not None]
        shares = kept / columns if columns else None, sum(norms) / len(norms) if norms else None
        table.add_row(name, str(len(layers)), *("-" if share is None else f"{share:.1%}" for share in shares))
    return table


def edit_figure(record: EditManifest) -> Figure:
    """Draw, over the decoder blocks, the columns that are kept and the norm that is left, a line a kind of layer."""
    lines: dict[str, list[tuple[int, EditedLayer]]] = {}
    for layer in record.layers:
        if found := _BLOCK.match(layer.name):
            lines.setdefault(found["layer"], []).append((int(found["index"]), layer))
    counted = any(layer.columns for layer in record.layers)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0 if counted else 5.5, 3.4), layout="constrained")
        axes: Any = figure.subplots(1, 1 + counted, squeeze=False)[0]
        for number, (kind, points) in enumerate(lines.items()):
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "ms": 3, "lw": 1}
            norms = [(block, 100 * layer.norm) for block, layer in points if layer.norm is not None]
            _draw(axes[-1], norms, kind, look)
            if counted:
                kept = [(block, 100 * (layer.kept or 0) / layer.columns) for block, layer in points if layer.columns]
                _draw(axes[0], kept, kind, look)
        axes[-1].set(xlabel="decoder block", ylabel="norm of the change that is left, percent", ylim=(0, None))
        if counted:
            axes[0].set(xlabel="decoder block", ylabel="columns kept, percent", ylim=(0, None))
        figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    return figure


def save_edit_figure(record: EditManifest, path: Path) -> None:
    """Write `edit_figure` beside each other as `<path>.png` and `<path>.svg`, whatever suffix the path has."""
    save(edit_figure(record), path.parent, path.stem)


def _draw(axes: Any, points: Sequence[tuple[int, float]], kind: str, look: dict[str, Any]) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), label=drawn(kind), **look)
