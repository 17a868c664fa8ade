"""Which methods are better, and whether by more than chance; which of many a figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from hpa_bench.metrics import METRICS
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition, once
from hpa_bench.report.groups import REFERENCES, Group
from hpa_bench.results.measures import Cell, Series
from hpa_bench.results.statistics import holm

LEVEL = 0.05
"""The chance at which the differences of one family, such as a column of a table, may hold a false one."""
SHOWN = 8
"""Methods in a figure with one panel a method."""
LEADING = 10
"""Rows of the table on a report's first screen."""


def ranked(series: Series, among: Sequence[Group]) -> list[Group]:
    """Return methods from best to worst by a final number; those without it and `REFERENCES` are left out."""
    sign = -1 if METRICS[series.metric].better == "higher" else 1
    values = [(group, group.final(series)) for group in among if group.method not in REFERENCES]
    found = [(sign * cell.value, group) for group, cell in values if isinstance(cell, Cell)]
    return [group for _, group in sorted(found, key=lambda pair: pair[0])]


def best_and_second(series: Series, among: Sequence[Group]) -> dict[str, str]:
    """Return which methods are marked "best" and "second" in a column, by label.

    The best is marked where it is told to be better than all that rank below it (`told_better`); the second where the
    best is marked and the same holds for the second. So neither stands on a difference that the data do not show.
    """
    marks: dict[str, str] = {}
    listed = ranked(series, among)
    for mark, group, below in zip(("best", "second"), listed, (listed[1:], listed[2:]), strict=False):
        if not below or not all(told_better(group, below, series)):
            break
        marks[group.label] = mark
    return marks


def corrected(family: Sequence[Cell | str]) -> list[float | None]:
    """Return the p-values of the differences of one family after Holm's correction; None of what is no number."""
    known = {index: cell.p for index, cell in enumerate(family) if isinstance(cell, Cell) and cell.p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    return [adjusted.get(index) for index in range(len(family))]


def told_from_zero(family: Sequence[Cell | str]) -> list[bool]:
    """Return which differences of one family are told from 0 at `LEVEL`, the chance of one false among them."""
    return [p is not None and p < LEVEL for p in corrected(family)]


def told_better(group: Group, others: Sequence[Group], series: Series) -> list[bool]:
    """Return from which others a method is told, as better: a rank is by all seeds, a difference by shared ones."""
    sign = 1 if METRICS[series.metric].better == "higher" else -1
    family = [group.difference(other, series) for other in others]
    better = [isinstance(cell, Cell) and sign * cell.value > 0 for cell in family]
    return [told and ahead for told, ahead in zip(told_from_zero(family), better, strict=True)]


@once
def shown_groups(condition: Condition) -> list[Group]:
    """What a figure with one panel a method shows: all that have stages, where they are few.

    Of many, the reference and hpa, then in turn the method with the highest AP and the one with the lowest MASR.
    """
    # A method with one model, such as zero_shot, has no curve; alone, it still gets its points.
    tested = [group for group in condition.main if any(run.stages for run in group.runs)]
    tested = [group for group in tested if group.last] or tested
    if len(tested) <= SHOWN:
        return tested
    return _in_turn(condition, tested, [group for group in tested if group in condition.references], SHOWN)


def leading(condition: Condition, count: int = LEADING) -> list[Group]:
    """Return the methods that say most: references, hpa and the front, then in turn the most accurate and the safest.

    Sorted by AP, the highest first; `REFERENCES` last, then what has no AP.
    """
    tested = [group for group in condition.main if any(run.stages for run in group.runs)]
    first = [group for group in tested if group.method in REFERENCES or group in condition.references]
    kept = _in_turn(condition, tested, [*first, *front(condition)], count)
    ordered = ranked(plane(condition)[0], kept)
    return [*ordered, *(group for group in kept if group not in ordered)]


@once
def front(condition: Condition) -> list[Group]:
    """Return the methods that no other beats in AP or MASR without losing in the other, by rising AP; no references."""
    accuracy, safety = plane(condition)
    found = [
        (x.value, y.value, group)
        for group in condition.main
        if group.method not in REFERENCES
        and isinstance(x := group.final(accuracy), Cell)
        and isinstance(y := group.final(safety), Cell)
    ]
    best = [
        (x, y, group) for x, y, group in found if not any(a >= x and b <= y and (a, b) != (x, y) for a, b, _ in found)
    ]
    return [group for _, _, group in sorted(best, key=lambda point: point[:2])]


def _in_turn(condition: Condition, tested: Sequence[Group], first: Sequence[Group], count: int) -> list[Group]:
    """Return so many methods in the order of the report: some, then the most accurate and the safest in turn."""
    accurate, safe = (ranked(series, tested) for series in plane(condition))
    chosen = [*first, *(group for pair in zip_longest(accurate, safe) for group in pair if group)]
    kept = list(dict.fromkeys([*chosen, *tested]))[:count]
    return [group for group in tested if group in kept]
