"""What a condition's results say, in a question and a few sentences, and the rows that matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpa_bench.metrics import METRICS
from hpa_bench.report import tables
from hpa_bench.report.columns import headline, plane
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import REFERENCES
from hpa_bench.report.noise import Spread
from hpa_bench.report.page import cells
from hpa_bench.report.ranking import leading, ranked, told_better, told_from_zero
from hpa_bench.results.measures import ALL, Cell, Series

NAMED = 3
"""Methods that a sentence names before it counts them."""

Words = list[tuple[str, bool]]
"""A sentence in pieces, each with whether it is emphasised; texts, so that names stay names."""


def lead(condition: Condition) -> dict[str, Any]:
    """Return what stands on the first screen: the question, the answer, and the table of the methods that say most."""
    judge = condition.judges[0] if condition.judges else ""
    columns = [Series(ALL, "task", "", "ap"), Series(ALL, "task", "", "bwt")]
    columns += [Series(ALL, "safety", judge, "masr")] if condition.safety_sets else []
    columns += [Series(ALL, "benign", judge, "over_refusal")] if condition.benign_sets else []
    marks = {row.group.label: row.marks for row in tables.main(condition)}
    shown = [series for series in headline(condition) if series in columns]
    places = [headline(condition).index(series) for series in shown]
    groups = leading(condition)
    rows = [
        cells.row_of(group)
        | {
            "cells": [
                tables.shown(group.final(series), mark=marks[group.label][place])
                for series, place in zip(shown, places, strict=True)
            ]
        }
        for group in groups
    ]
    return {
        "about": _about(condition),
        "question": _question(condition),
        "answer": [sentence for sentence in _answer(condition) if sentence],
        "table": {"head": [cells.head(series) for series in shown], "rows": rows},
        "left_out": len(condition.main) - len(groups),
    }


def _about(condition: Condition) -> list[str]:
    seeds = sorted({len(group.runs) for group in condition.main})
    said = [condition.runs[0].manifest.suite_title, _count(len(condition.main), "method")]
    said += [f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else _count(seeds[0], "seed")]
    said += [_count(len(condition.tasks), "task")]
    sets = len(condition.safety_sets) + len(condition.benign_sets)
    return [*said, _count(sets, "safety set")] if sets else said


def _question(condition: Condition) -> str:
    after = f"After {_count(len(condition.tasks), 'task')}"
    if condition.harmful_ratio:
        after += f" with {100 * condition.harmful_ratio:g}% harmful samples"
    if len(condition.main) == 1:
        return f"{after}, what does the model still know{' and refuse' if condition.safety_sets else ''}?"
    refusals = " and refusals" if condition.safety_sets else ""
    return f"{after}, which of {len(condition.main)} methods keeps skills{refusals}?"


def _answer(condition: Condition) -> list[Words]:
    if len(ranked(plane(condition)[0], condition.main)) < 2:
        return [*_alone(condition), _noise(condition)]
    return [*_best(condition), _alike(condition), _noise(condition)]


def _alone(condition: Condition) -> list[Words]:
    """Say what one method does."""
    group, (accuracy, safety) = condition.main[0], plane(condition)
    ap, bwt, masr = (group.final(series) for series in (accuracy, accuracy._replace(metric="bwt"), safety))
    if not isinstance(ap, Cell):
        return []
    found: list[Words] = [[(group.label, True), (f": AP {_interval(ap)} after the last stage", False)]]
    if isinstance(bwt, Cell):
        found[0].append((f", BWT {_interval(bwt)}", False))
    found[0].append((".", False))
    aligned = group.cell(0, safety)
    if isinstance(masr, Cell):
        before = f", from {tables.number(aligned.value)}% before tuning" if isinstance(aligned, Cell) else ""
        found.append([(f"{tables.number(masr.value)}% of harmful requests are not refused (MASR){before}.", False)])
    return found


def _best(condition: Condition) -> list[Words]:
    """Say which method is best in AP and which in MASR, and from how many it is told."""
    found = []
    for series, words in zip(plane(condition), ("Most accurate", "Fewest harmful requests obeyed"), strict=True):
        listed = ranked(series, condition.main)
        if len(listed) < 2:
            continue
        best, *below = listed
        value = best.final(series)
        told = told_better(best, below, series)
        tied = [group.label for group, apart in zip(below, told, strict=True) if not apart]
        title = METRICS[series.metric].title
        number = tables.number(value.value) if isinstance(value, Cell) else ""
        sentence: Words = [(f"{words}: ", False), (best.label, True), (f" ({title} {number}), ", False)]
        if not tied:
            sentence += [(f"told from all {len(below)} others.", False)]
        elif len(tied) == len(below):
            sentence += [("told from no other.", False)]
        else:
            sentence += [("not told from ", False), *_named(tied), (".", False)]
        found.append(sentence)
    return found


def _alike(condition: Condition) -> Words:
    """Say which methods are not told from hpa, or from the reference, in AP and in MASR."""
    against = condition.references[-1]
    others = [group for group in condition.main if group is not against and group.method not in REFERENCES]
    series = [one for one in plane(condition) if isinstance(against.final(one), Cell)]
    told = [told_from_zero([group.difference(against, one) for group in others]) for one in series]
    if not told or not others:
        return []
    alike = [group.label for group, *apart in zip(others, *told, strict=True) if not any(apart)]
    titles = [METRICS[one.metric].title for one in series]
    name, tail = (against.label, True), (" (5%, Holm’s correction)", False)
    if not alike:
        return [("Every other is told from ", False), name, (f" in {' or '.join(titles)}", False), tail, (".", False)]
    if len(alike) == len(others):
        none = f"None of the {_count(len(others), 'other')} is told from "
        return [(none, False), name, (f" in {' or '.join(titles)}", False), tail, (".", False)]
    said = ("neither " if len(titles) > 1 else "not ") + " nor ".join(titles)
    return [("Told from ", False), name, (f" in {said}", False), tail, (": ", False), *_named(alike), (".", False)]


def _noise(condition: Condition) -> Words:
    """Say how far rounding alone moves the two numbers."""
    most = []
    for series in plane(condition):
        spreads = [one for floor in condition.noise if isinstance(one := floor.spread(series), Spread)]
        if spreads:
            most.append(f"{METRICS[series.metric].title} by {tables.number(max(one.sd for one in spreads))}")
    if not most:
        return [("How far rounding alone moves these numbers was not measured here.", False)]
    return [(f"Rounding alone moves one run’s {' and '.join(most)} points (sd of its noise runs).", False)]


def _named(labels: Sequence[str]) -> Words:
    """Name a few methods; of many, count them."""
    if len(labels) > NAMED:
        return [(f"{len(labels)} others", False)]
    found: Words = []
    for index, label in enumerate(labels):
        found += [((" and " if index == len(labels) - 1 else ", ") if index else "", False), (label, True)]
    return found


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _interval(cell: Cell) -> str:
    number = tables.number(cell.value)
    return f"{number} [{tables.number(cell.low)}, {tables.number(cell.high)}]" if cell.has_interval else number
