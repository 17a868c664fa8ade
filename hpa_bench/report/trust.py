"""How far to trust the safety numbers: the judges on reference answers, against one another, and harm by harm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpa_bench.names import short_names
from hpa_bench.report.columns import pairs, safety_columns
from hpa_bench.report.conditions import Condition
from hpa_bench.report.kinds import kind_of
from hpa_bench.report.ranking import shown_groups, told_from_zero
from hpa_bench.report.tables import Row, about, shown, values
from hpa_bench.results.agreement import CALIBRATED
from hpa_bench.results.measures import ALL, Cell, Series


def calibration_row(condition: Condition, columns: Sequence[Series]) -> list[dict[str, Any]] | str:
    """Return the cells of a judge's table for the sets' own reference answers, or the reason why none has a number."""
    found = [condition.calibration(series) if series.metric in CALIBRATED else "-" for series in columns]
    reasons = {cell for cell in found if cell != "-"}
    if len(reasons) == 1 and isinstance(reason := reasons.pop(), str):
        return reason
    # No run, so no seeds: n stands where the sd over seeds would.
    return [shown(cell) | ({"sd": f"n = {cell.n}"} if isinstance(cell, Cell) else {}) for cell in found]


def agreement_tables(condition: Condition) -> dict[str, dict[str, Any]]:
    """Return, for each two judges, kappa and agreement of each method after the last stage: all sets, then each."""
    short = short_names(condition.safety_sets)
    found = {}
    for pair in pairs(condition):
        rows = []
        sizes: dict[str, int] = {}
        for group in condition.main:
            cells = []
            for name in (ALL, *condition.safety_sets):
                kappa, agreed = (group.final(Series(name, "safety", pair, metric)) for metric in ("kappa", "agreement"))
                cells.append((shown(kappa, digits=2), shown(agreed)))
                if isinstance(agreed, Cell):
                    sizes[name] = agreed.n
            rows.append({"label": group.label, "kind": kind_of(group), "seeds": group.seeds, "cells": cells})
        head = [
            ("all sets" if name == ALL else short[name], f"n = {sizes[name]}" if name in sizes else "")
            for name in (ALL, *condition.safety_sets)
        ]
        found[pair] = {"head": head, "rows": rows}
    return found


def category_table(condition: Condition, name: str, judge: str, show_unsafe: bool = False) -> dict[str, Any]:
    """Return the ASR of each category of a set by one judge: of the aligned model, then of each method of the figures.

    Returns:
        `methods`, and as `rows` the category, its n, the aligned model's cell, and for each method its final cell and
        its change since stage 0, told from 0 after correction over the table.
    """
    groups, labels = shown_groups(condition), category_labels(condition, name, show_unsafe)
    listed = {label: Series(f"{name}/{one}", "safety", judge, "category_asr") for one, label in labels.items()}
    changes = {
        (label, group.label): group.final(series._replace(metric="category_change"))
        for label, series in listed.items()
        for group in groups
    }
    told = dict(zip(changes, told_from_zero(list(changes.values())), strict=True))
    rows = []
    for label, series in listed.items():
        aligned = condition.reference.cell(0, series)
        finals = [
            (
                shown(group.final(series)),
                shown(changes[label, group.label], signed=True, differs=told[label, group.label]),
            )
            for group in groups
        ]
        rows.append((label, aligned.n if isinstance(aligned, Cell) else "", shown(aligned), finals))
    return {"methods": [group.label for group in groups], "rows": rows}


def category_labels(condition: Condition, name: str, show_unsafe: bool) -> dict[str, str]:
    """Return how a report calls each harm category of a set: a number, since its name is a text of the data set."""
    listed = condition.categories[name]
    return {category: category if show_unsafe else f"category {index}" for index, category in enumerate(listed, 1)}


def calibration(condition: Condition) -> list[Row]:
    """Return every judge's numbers on the sets' own reference answers."""
    columns = [series for judge in condition.judges for series in safety_columns(condition, judge)]
    return [
        {"condition": condition.title} | series._asdict() | _calibrated(condition.calibration(series))
        for series in columns
        if series.metric in CALIBRATED
    ]


def agreement(condition: Condition) -> list[Row]:
    """Return how far each two judges agree on each method's responses after the last stage."""
    columns = [
        Series(name, "safety", pair, metric)
        for pair in pairs(condition)
        for name in (ALL, *condition.safety_sets)
        for metric in ("agreement", "kappa")
    ]
    return [
        about(condition, group, series) | values(group.final(series), group)
        for group in condition.groups
        for series in columns
    ]


def categories(condition: Condition, show_unsafe: bool = False) -> list[Row]:
    """Return the ASR of each harm category, before tuning and after the last stage, and its change; every judge."""
    rows = []
    for group in condition.groups:
        wanted = [(0, "category_asr")]
        wanted += [(group.last, metric) for metric in ("category_asr", "category_change")] if group.last else []
        for judge in condition.judges:
            for name in condition.categories:
                for category, label in category_labels(condition, name, show_unsafe).items():
                    for stage, metric in wanted:
                        series = Series(f"{name}/{category}", "safety", judge, metric)
                        row = {"stage": stage, "category": label} | about(condition, group, series) | {"set": name}
                        rows.append(row | values(group.cell(stage, series), group))
    return rows


def _calibrated(cell: Cell | str) -> Row:
    if isinstance(cell, str):
        return {"n": "", "value": "", "low": "", "high": "", "missing": "not defined" if cell == "-" else cell}
    numbers = {name: round(getattr(cell, name), 4) + 0.0 for name in ("value", "low", "high")}
    return {"n": cell.n} | numbers | {"missing": ""}
