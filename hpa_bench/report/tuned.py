"""Methods with their defaults and as tuned, side by side, and the trials that chose the tuned settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hpa_bench.metrics import METRICS
from hpa_bench.report import tables
from hpa_bench.report.columns import headline
from hpa_bench.report.conditions import Condition, once
from hpa_bench.report.groups import Group
from hpa_bench.report.settings import settings_of
from hpa_bench.results.measures import Cell, Series
from hpa_bench.results.tuned import Tuned

SCORES = ("ap", "bwt", "masr", "over_refusal")
"""Of a trial, in the order in which they are shown; the objective comes last."""
NO_RUN = "missing: no run with these settings"


class Side(NamedTuple):
    """A method with its defaults or as tuned: its final numbers, and of the tuned one the difference to the other."""

    method: str
    setting: str
    group: Group | None
    cells: list[tables.Found]
    differences: list[tables.Contrast] | None
    is_chosen: bool
    """Whether these are the settings that its trials chose."""


def tuned_files(listed: Sequence[Condition]) -> list[Tuned]:
    """Return the files of tuned settings that conditions have, each once."""
    return list({id(condition.tuned): condition.tuned for condition in listed if condition.tuned is not None}.values())


@once
def sides(condition: Condition) -> list[Side]:
    """Return each tuned method that stands in a condition, its defaults first; one whose defaults were best, once.

    Where there are defaults alone of what has other chosen settings, nothing was run as tuned, and nothing is returned.
    """
    pairs = []
    for name, method in condition.tuned.methods.items() if condition.tuned is not None else ():
        default = _group(condition, name, method.config)
        chosen = _group(condition, name, method.config | method.chosen)
        if default or chosen:
            pairs.append((name, method, default, chosen))
    changed = [chosen for _, method, _, chosen in pairs if method.chosen]
    if changed and not any(changed):
        return []
    both = [(default, chosen) for _, method, default, chosen in pairs if default and chosen and method.chosen]
    columns = headline(condition)
    contrasts = dict(zip([chosen for _, chosen in both], tables.paired(both, columns), strict=True))
    found = []
    for name, method, default, chosen in pairs:
        words = "defaults" if method.chosen else f"defaults, the best of {len(method.trials)} trials"
        found.append(Side(name, words, default, _cells(default, columns), None, not method.chosen))
        if method.chosen:
            words = f"tuned: {tables.setting(method.chosen)}"
            changes = contrasts.get(chosen) if chosen else None
            found.append(Side(name, words, chosen, _cells(chosen, columns), changes, True))
    return found


class Against(NamedTuple):
    """Every method minus one, each with what equal budgets chose."""

    reference: Side
    others: list[tuple[Side, Group, list[tables.Contrast]]]


@once
def against(condition: Condition) -> Against | None:
    """Return every method minus hpa, or minus the reference; None where that was not tuned.

    They are paired by seed and by test sample, and corrected over the methods.
    """
    chosen = [(side, side.group) for side in sides(condition) if side.is_chosen and side.group]
    named = [pair for pair in chosen if pair[0].method == condition.references[-1].method]
    if not named:
        return None
    (reference, group), others = named[0], [pair for pair in chosen if pair is not named[0]]
    changes = tables.paired([(group, other) for _, other in others], headline(condition))
    return Against(reference, [(*pair, row) for pair, row in zip(others, changes, strict=True)])


def against_rows(condition: Condition) -> list[tables.Row]:
    """Return the same as rows of a CSV file."""
    if not (found := against(condition)):
        return []
    return [
        tables.about(condition, group, series)
        | {"method": side.method, "setting": side.setting, "reference": found.reference.method}
        | tables.contrast_values(change, group)
        for side, group, changes in found.others
        for series, change in zip(headline(condition), changes, strict=True)
    ]


def side_rows(condition: Condition) -> list[tables.Row]:
    """Return the same as rows of a CSV file."""
    rows: list[tables.Row] = []
    for side in sides(condition):
        for index, (series, cell) in enumerate(zip(headline(condition), side.cells, strict=True)):
            row: tables.Row = {"condition": condition.title, "method": side.method, "setting": side.setting}
            value = cell if isinstance(cell, Cell) else None
            row |= series._asdict() | {"seeds": value.seeds if value else 0}
            row |= {name: round(getattr(value, name), 4) + 0.0 if value else "" for name in ("value", "low", "high")}
            change = side.differences[index] if side.differences else None
            known = change.cell if change and isinstance(change.cell, Cell) else None
            row |= {"difference": round(known.value, 4) + 0.0 if known else ""}
            row |= {"p_holm": f"{change.p_holm:.4g}" if change and change.p_holm is not None else ""}
            rows.append(row | {"missing": "" if value or cell == "-" else cell})
    return rows


def trial_rows(tuned: Tuned) -> list[tables.Row]:
    """Return every trial as a row of a CSV file: whether it is on its method's front, and whether it was chosen."""
    rows = []
    for name, method in tuned.methods.items():
        front = method.front()
        for number, trial in enumerate(method.trials, 1):
            row: tables.Row = {"suite": tuned.suite, "split": tuned.split, "method": name, "trial": number}
            row |= {"settings": tables.setting(trial.settings) or "defaults", "seed": trial.seed}
            row |= {score: trial.scores.get(score, "") for score in SCORES}
            row |= {"objective": "" if trial.objective is None else trial.objective}
            row |= {"front": "yes" if trial in front else "", "chosen": "yes" if method.is_chosen(trial) else ""}
            rows.append(row | {"missing": trial.missing})
    return rows


def budget(tuned: Tuned) -> list[str]:
    """Return what every method was given, in sentences."""
    count = f"{len(tuned.methods)} method{'s' if len(tuned.methods) > 1 else ''}"
    commits = sorted({commit[:12] for method in tuned.methods.values() for commit in method.git_commits})
    found = [
        f"{tuned.trials} trials of each of {count}, one seed each, scored on {tuned.split} rows:"
        f" {tuned.design}. A method with fewer trials has no more settings.",
        f"Highest of: {tuned.objective}. It was fixed before any trial.",
        f"Seeds of the trials, which no report uses: {', '.join(map(str, tuned.seeds))}.",
    ]
    if tuned.untuned:
        found.append("Not tuned: " + "; ".join(f"{name}, {why}" for name, why in tuned.untuned.items()) + ".")
    return [*found, f"Commit of the code: {', '.join(commits)}."] if commits else found


def _group(condition: Condition, name: str, config: dict[str, Any]) -> Group | None:
    wanted = settings_of(name, config)
    return next((group for group in condition.groups if (group.method, group.config) == wanted), None)


def _cells(group: Group | None, columns: Sequence[Series]) -> list[tables.Found]:
    return [group.final(series) if group else NO_RUN for series in columns]


def section(listed: Sequence[Condition], tuned: Tuned) -> dict[str, Any]:
    """Return what the page shows of a file of tuned settings."""
    parts = [(condition, sides(condition)) for condition in listed if condition.tuned is tuned]
    return {
        "suite": tuned.suite,
        "budget": budget(tuned),
        "parts": [
            {
                "title": condition.title,
                "intervals": tables.intervals(condition),
                "head": [tables.title(series) for series in headline(condition)],
                "rows": [_shown(side) for side in found],
                "against": _against(condition),
            }
            for condition, found in parts
            if found
        ],
        "trials": trial_rows(tuned),
        "spaces": {name: method.space for name, method in tuned.methods.items()},
        "scores": [(score, METRICS[score].title) for score in SCORES],
    }


def _against(condition: Condition) -> dict[str, Any] | None:
    found = against(condition)
    if not found:
        return None
    rows = [
        (side.method, side.setting, [tables.shown(one.cell, signed=True, differs=one.differs) for one in changes])
        for side, _, changes in found.others
    ]
    return {"reference": f"{found.reference.method} ({found.reference.setting})", "rows": rows}


def _shown(side: Side) -> dict[str, Any]:
    changes: list[dict[str, Any]] = [{} for _ in side.cells]
    if side.differences:
        changes = [tables.shown(one.cell, signed=True, differs=one.differs) for one in side.differences]
    return {
        "method": side.method,
        "setting": side.setting,
        "seeds": side.group.seeds if side.group else "0",
        "cells": list(zip([tables.shown(cell) for cell in side.cells], changes, strict=True)),
        "tuned": side.setting.startswith("tuned"),
    }
