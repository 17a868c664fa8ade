"""How far the columns that a method keeps are simply those of the largest update: by decoder block, and by layer."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.figure import Figure

from hpa_bench.report.columns import overlap_columns
from hpa_bench.report.conditions import Condition
from hpa_bench.report.figures import COLOURS, MARKERS, STYLE, bars_of
from hpa_bench.report.groups import Group
from hpa_bench.report.labels import drawn
from hpa_bench.report.tables import Row, about, shown, values
from hpa_bench.results.measures import ALL, Cell, Key, Series, combine
from hpa_bench.results.update import Overlap, layer_overlaps, update_series


def keeping(condition: Condition) -> list[Group]:
    """Return the methods of the main table that keep columns, but for the one whose columns those are."""
    whole = overlap_columns(condition)[:1]
    known = [group for group in condition.main for series in whole if isinstance(group.final(series), Cell)]
    return [group for group in known if group.method != "magnitude_columns"]


def overlap_table(condition: Condition) -> dict[str, Any] | None:
    """Return the overlap block by block, beside each number what chance would give; None where nobody keeps columns."""
    groups = keeping(condition)
    if not groups:
        return None
    rows = [
        (
            "all blocks" if series.set == ALL else series.set,
            [(shown(group.final(series)), shown(group.final(_chance(series)))) for group in groups],
        )
        for series in overlap_columns(condition)
    ]
    return {"methods": [group.label for group in groups], "rows": rows}


def overlap_figure(condition: Condition) -> Figure | None:
    """Draw the overlap over the decoder's blocks, and dotted what chance would give, one colour a method."""
    groups, blocks = keeping(condition), [series for series in overlap_columns(condition) if series.set != ALL]
    if not groups or len(blocks) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for index, group in enumerate(groups):
            colour = COLOURS[index % len(COLOURS)]
            found = [(at, cell) for at, series in enumerate(blocks) if isinstance(cell := group.final(series), Cell)]
            xs, ys = [at for at, _ in found], [cell.value for _, cell in found]
            bars: Any = {"yerr": bars_of(*(cell for _, cell in found)), "elinewidth": 1, "capsize": 2}
            style: Any = {"color": colour, "marker": MARKERS[index % len(MARKERS)], "ms": 4.5, "lw": 1.4}
            axes.errorbar(xs, ys, label=drawn(group.label), **bars, **style)
            chance = [(at, cell) for at, s in enumerate(blocks) if isinstance(cell := group.final(_chance(s)), Cell)]
            axes.plot([at for at, _ in chance], [cell.value for _, cell in chance], color=colour, lw=1, ls=":")
        axes.set(ylim=(-3, 103), xlabel="decoder block", ylabel="of the kept columns, %")
        axes.set_xticks(range(0, len(blocks), 1 + len(blocks) // 16))
        figure.legend(loc="outside lower center", ncols=min(len(groups), 3), fontsize=8)
    return figure


def layer_rows(condition: Condition) -> list[Row]:
    """Return the overlap of each linear layer, of every setting that keeps columns, as rows of a CSV file."""
    rows: list[Row] = []
    for group in condition.groups:
        of_runs = [layer_overlaps(run.updates, run.manifest) for run in group.runs]
        for block, layer in dict.fromkeys(place for found in of_runs for place in found):
            known = [found[block, layer] for found in of_runs if (block, layer) in found]
            name = layer.partition(f".{block}.")[2] or layer
            for metric in Overlap._fields:
                series = update_series(metric, layer)
                cell = combine(Key(group.last, series), [getattr(overlap, metric) for overlap in known])
                rows.append(about(condition, group, series) | {"block": block, "layer": name} | values(cell, group))
    return rows


def _chance(series: Series) -> Series:
    return series._replace(metric="chance_overlap")
