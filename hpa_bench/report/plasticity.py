"""Matched plasticity: what methods forget and unlearn where they have learned equally well.

A method that is swept over its strength trades what it learns (the mean accuracy on tasks just learned, MFT) against
what it keeps. Two methods are compared at one level of the former, read between neighbouring strengths of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from hpa_bench.metrics import METRICS
from hpa_bench.report import tables
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition, once
from hpa_bench.report.figures import COLOURS, MARKERS, STYLE, bars_of
from hpa_bench.report.groups import Group
from hpa_bench.report.labels import drawn
from hpa_bench.report.ranking import LEVEL, corrected
from hpa_bench.report.settings import FEWEST, families
from hpa_bench.results.measures import ALL, Cell, Key, Measure, Series, combine, compare
from hpa_bench.results.runs import Run, flat

LEARNED = Series(ALL, "task", "", "mft")
"""What is matched: the diagonal of the accuracy matrix."""


@dataclass(frozen=True)
class Sweep:
    """One method at several strengths, all other settings equal."""

    label: str
    """The method, with what differs from its defaults beside the strength."""
    groups: Sequence[Group]
    """One a strength, in its order."""

    @property
    def seeds(self) -> list[int]:
        """The seeds that every strength has."""
        return sorted(set.intersection(*({run.seed for run in group.runs} for group in self.groups)))

    def runs(self, seed: int) -> list[Run]:
        """Return one seed's runs, in the order of their strengths."""
        return [run for group in self.groups for run in group.runs if run.seed == seed]

    def learned(self, seed: int) -> list[float]:
        """Return one seed's accuracy on tasks just learned, in the order of strengths; of finished runs alone."""
        measured = (run.measures.get(Key(run.last, LEARNED)) for run in self.runs(seed))
        return [found.value for found in measured if found]


def sweeps(condition: Condition) -> list[Sweep]:
    """Return every method that was run at `FEWEST` strengths or more, its other settings equal."""
    known = [group for group in condition.designed if isinstance(group.final(LEARNED), Cell)]
    return [Sweep(_label(one.groups, one.keys), one.groups) for one in families(known) if len(one.groups) >= FEWEST]


def _label(groups: Sequence[Group], keys: Sequence[str]) -> str:
    """Return the shortest name of settings that differ in their strength alone."""
    names = []
    for group in groups:
        changed = [key for key in flat(group.runs[0].manifest.changed or {}) if key in group.config and key not in keys]
        settings = ", ".join(f"{key}={group.config[key]}" for key in changed)
        names.append(f"{group.method} ({settings})" if settings else group.method)
    return min(names, key=len)


def level(swept: Sequence[Sweep]) -> float | None:
    """Return the highest accuracy on tasks just learned that every method reaches in every seed; None without any."""
    highest = [max(values) for sweep in swept for seed in sweep.seeds if (values := sweep.learned(seed))]
    return min(highest) if highest else None


def matched(runs: Sequence[Run], series: Series, at: float) -> Measure | None:
    """Return a number of one seed's runs at a level of accuracy on tasks just learned.

    It is linear between two neighbouring strengths that enclose the level, and the mean over all such pairs where the
    level is crossed more than once. Its sampling error has that of both numbers and of both accuracies, by their
    derivatives.

    Args:
        runs: one a strength, in its order.
        series: of the last stage.
        at: the level, in percent.

    Returns:
        None where no two neighbouring strengths enclose the level: nothing is extrapolated.
    """
    points = [
        (run.measures[Key(run.last, LEARNED)], run.measures[Key(run.last, series)])
        for run in runs
        if Key(run.last, LEARNED) in run.measures and Key(run.last, series) in run.measures
    ]
    found = [
        _between(one, other, at, series.kind == LEARNED.kind)
        for one, other in pairwise(points)
        if min(one[0].value, other[0].value) <= at <= max(one[0].value, other[0].value)
    ]
    if not found:
        return None
    value = float(np.mean([measure.value for measure in found]))
    return Measure(value, found[0].n, np.mean([measure.deviations for measure in found], axis=0))


def _between(one: tuple[Measure, Measure], other: tuple[Measure, Measure], at: float, same_samples: bool) -> Measure:
    """Return a number between two points (accuracy, number), at a level of accuracy that they enclose."""
    (x0, y0), (x1, y1) = one, other
    apart = x1.value - x0.value
    share = (at - x0.value) / apart if apart else 0.5  # Of two equally accurate strengths, their mean.
    slope = (y1.value - y0.value) / apart if apart else 0.0
    errors = (1 - share) * y0.deviations + share * y1.deviations
    moved = -slope * ((1 - share) * x0.deviations + share * x1.deviations)
    # Accuracies stand on the same samples; safety is on others, whose errors are not theirs.
    deviations = errors + moved if same_samples else np.concatenate([errors, moved])
    return Measure((1 - share) * y0.value + share * y1.value, y0.n, deviations)


@dataclass(frozen=True)
class Row:
    """A method at the level of matched plasticity, by column: its number, and the reference minus it."""

    sweep: Sweep
    cells: list[Cell | str]
    differences: list[Cell | str]
    p_holm: list[float | None]

    @property
    def differs(self) -> list[bool]:
        """Which differences are told from 0."""
        return [p is not None and p < LEVEL for p in self.p_holm]


@dataclass(frozen=True)
class Matched:
    """Every swept method at one level of accuracy on tasks just learned."""

    level: float
    columns: list[Series]
    reference: Sweep
    """What the others are compared with: hpa where it is swept, else the first."""
    rows: list[Row]


@once
def match(condition: Condition) -> Matched | None:
    """Return the swept methods at equal accuracy on tasks just learned; None where there are fewer than two."""
    swept = sweeps(condition)
    at = level(swept)
    if len(swept) < 2 or at is None:
        return None
    columns = [Series(ALL, "task", "", "bwt"), *([plane(condition)[1]] if condition.safety_sets else [])]
    found = [{s: {seed: matched(sweep.runs(seed), s, at) for seed in sweep.seeds} for s in columns} for sweep in swept]
    first = next((index for index, sweep in enumerate(swept) if sweep.label == "hpa"), 0)
    last = swept[first].groups[0].last
    cells = [[_mean(Key(last, s), by_seed[s], at) for s in columns] for by_seed in found]
    differences = [[_difference(Key(last, s), found[first][s], other[s]) for s in columns] for other in found]
    rivals = [index for index in range(len(swept)) if index != first]
    p: list[list[float | None]] = [[None] * len(columns) for _ in swept]
    for column in range(len(columns)):
        for index, value in zip(rivals, corrected([differences[index][column] for index in rivals]), strict=True):
            p[index][column] = value
    rows = [Row(*row) for row in zip(swept, cells, differences, p, strict=True)]
    return Matched(at, columns, swept[first], rows)


def _mean(key: Key, by_seed: dict[int, Measure | None], at: float) -> Cell | str:
    measures = [measure for measure in by_seed.values() if measure]
    return combine(key, measures) if measures else f"missing: no two strengths enclose {at:.1f}"


def _difference(key: Key, ours: dict[int, Measure | None], theirs: dict[int, Measure | None]) -> Cell | str:
    pairs = [(one, two) for seed, one in ours.items() if one and (two := theirs.get(seed))]
    return compare(key, pairs) if pairs else "missing: no seed in common"


def plasticity_figure(found: Matched) -> Figure:
    """Draw BWT and MASR against the accuracy on tasks just learned, a line a method through its strengths."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 4.2 * len(found.columns), 4.2), layout="constrained")
        panels = figure.subplots(1, len(found.columns), squeeze=False)
        for axes, series in zip(panels.flat, found.columns, strict=True):
            for index, row in enumerate(found.rows):
                points = [(group.final(LEARNED), group.final(series)) for group in row.sweep.groups]
                known = [(x, y) for x, y in points if isinstance(x, Cell) and isinstance(y, Cell)]
                xs, ys = [x.value for x, _ in known], [y.value for _, y in known]
                bars: Any = {"yerr": bars_of(*(y for _, y in known)), "elinewidth": 0.8, "alpha": 0.9}
                style: Any = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
                axes.errorbar(xs, ys, ms=5, lw=1.4, label=drawn(row.sweep.label), **style, **bars)
            axes.axvline(found.level, color="#8c8c8c", lw=1, ls=(0, (4, 2)))
            metric = METRICS[series.metric]
            axes.set_title(f"{metric.title}, {metric.unit}  ({metric.better} is better)", loc="left")
            axes.set_xlabel("accuracy on tasks just learned (MFT), %")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=8)
    return figure


def plasticity_rows(condition: Condition) -> list[tables.Row]:
    """Return the swept methods at equal accuracy on tasks just learned, a row a method and column, for CSV."""
    if not (found := match(condition)):
        return []
    return [
        {"condition": condition.title, "method": row.sweep.label}
        | series._asdict()
        | {"mft": round(found.level, 4), "strengths": len(row.sweep.groups), "seeds_swept": len(row.sweep.seeds)}
        | {"reference": "" if about == "value" else found.reference.label}
        | tables.values(cell, min(row.sweep.groups, key=lambda group: len(group.runs)))
        | {"p_holm": "" if about == "value" or p is None else f"{p:.4g}"}
        for row in found.rows
        for about, cells in (("value", row.cells), ("difference", row.differences))
        if about == "value" or row.sweep is not found.reference
        for series, cell, p in zip(found.columns, cells, row.p_holm, strict=True)
    ]
