"""What the page draws its charts from."""

from __future__ import annotations

from typing import Any

from hpa_bench.metrics import METRICS
from hpa_bench.names import short_names
from hpa_bench.redact import clean
from hpa_bench.report import tables
from hpa_bench.report.columns import headline, plane
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import REFERENCES, Group
from hpa_bench.report.kinds import kind_of
from hpa_bench.report.noise import Spread
from hpa_bench.report.ranking import front, shown_groups
from hpa_bench.results.measures import ALL, Series

CHOSEN = 4
"""Methods that a chart over the stages shows before any is chosen."""


def data(condition: Condition, anchor: str) -> Any:
    """Return what the charts of a condition show: methods, and by method the numbers of each chart."""
    groups = condition.main
    masr = plane(condition)[1]
    found = {
        "anchor": anchor,
        "title": condition.title,
        "tasks": condition.tasks,
        "safety": condition.safety_sets,
        "benign": condition.benign_sets,
        "judges": condition.judges,
        "methods": [_method(condition, group) for group in groups],
        "chosen": _chosen(condition),
        "plane": {
            "points": [_point(group, condition) for group in groups],
            "front": [groups.index(group) for group in front(condition)],
            "floor": _floor(condition),
            "aligned": _numbers(condition.reference.cell(0, masr)),
        },
        "curves": _curves(condition),
        "pairs": _pairs(condition),
    }
    return cleaned(found)


def cleaned(value: Any) -> Any:
    """Return a value with every text in it fit to leave (see `hpa_bench.redact`)."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: cleaned(each) for key, each in value.items()}
    return [cleaned(each) for each in value] if isinstance(value, list | tuple) else value


def _method(condition: Condition, group: Group) -> dict[str, Any]:
    short, run = short_names(condition.tasks), group.runs[0]
    stages: list[list[str]] = [[], *run.curriculum]
    return {
        "label": group.label,
        "method": group.method,
        "kind": kind_of(group),
        "seeds": [run.seed for run in group.runs],
        "last": group.last,
        "trained": [run.trained(stage) for stage in range(group.last + 1)],
        "stages": [short[names[0]] if len(names) == 1 else f"{len(names)} tasks" for names in stages],
        "tasks": stages,
    }


def _chosen(condition: Condition) -> list[int]:
    """Return which methods the charts over the stages show first: the references, then those of the figures."""
    listed = [*condition.references, *(group for group in shown_groups(condition) if group.method not in REFERENCES)]
    return [condition.main.index(group) for group in dict.fromkeys(listed)][:CHOSEN]


def _point(group: Group, condition: Condition) -> list[list[float] | None]:
    return [_numbers(group.final(series)) for series in plane(condition)]


def _floor(condition: Condition) -> list[dict[str, Any]]:
    """Return by method with noise runs the sds of its two numbers."""
    found = []
    labels = [group.label for group in condition.main]
    for floor in condition.noise:
        wide, high = (floor.spread(series) for series in plane(condition))
        if isinstance(wide, Spread) and isinstance(high, Spread) and floor.label in labels:
            found.append({"method": labels.index(floor.label), "sd": [round(wide.sd, 2), round(high.sd, 2)]})
    return found


def _curves(condition: Condition) -> list[dict[str, Any]]:
    """Return what is drawn over the stages: accuracy of each task, MASR, and ASR of each safety set."""
    short = short_names(condition.tasks) | short_names(condition.safety_sets)
    masr = plane(condition)[1]
    drawn = [Series(task, "task", "", "accuracy") for task in condition.tasks]
    if condition.safety_sets and condition.judges:
        drawn += [masr, *(masr._replace(set=name, metric="asr") for name in condition.safety_sets)]
    return [
        {
            "title": METRICS[series.metric].title if series.set == ALL else short[series.set],
            "set": series.set,
            "kind": series.kind,
            "judge": series.judge,
            "values": [
                [_numbers(group.cell(stage, series)) for stage in range(group.last + 1)] for group in condition.main
            ],
        }
        for series in drawn
    ]


def _pairs(condition: Condition) -> dict[str, Any]:
    """Return each method minus each other in the headline columns, told from 0 after correction over the methods."""
    # Of two methods DASR differs as MASR does: both start from the aligned model.
    columns, groups = [series for series in headline(condition) if series.metric != "dasr"], condition.main
    rows = []
    for reference in groups:
        others = [group for group in groups if group is not reference]
        found = iter(tables.paired([(reference, group) for group in others], columns))
        rows.append([None if group is reference else [_contrast(one) for one in next(found)] for group in groups])
    heads = [
        {"title": METRICS[series.metric].title, "better": METRICS[series.metric].better}
        | {"set": series.set, "kind": series.kind, "judge": series.judge}
        for series in columns
    ]
    return {"columns": heads, "reference": groups.index(condition.references[-1]), "minus": rows}


def _contrast(one: tables.Contrast) -> list[Any] | None:
    found = _numbers(one.cell)
    return None if found is None else [*found, int(one.differs)]


def _numbers(cell: tables.Found) -> list[float] | None:
    """Return a number with its interval, as exact as any table shows it."""
    if isinstance(cell, str):
        return None
    return [round(number, 2) + 0.0 for number in (cell.value, cell.low, cell.high)]
