"""Cells and tables as the page's templates take them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hpa_bench.metrics import METRICS
from hpa_bench.names import short_names
from hpa_bench.report import tables
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import Group
from hpa_bench.report.kinds import kind_of
from hpa_bench.results.measures import ALL, Cell, Series

ARROWS = {"higher": "↑", "lower": "↓", "": ""}


def shown(cell: tables.Found, series: Series) -> dict[str, Any]:
    """Return a cell with the digits of its metric."""
    return tables.shown(cell, digits=METRICS[series.metric].digits)


def head(series: Series) -> dict[str, str]:
    """Return a column's heading; `of`, `kind` and `judge` say whose samples stand behind its numbers."""
    metric = METRICS[series.metric]
    better = {"title": metric.title, "better": ARROWS[metric.better], "set": "", "n": ""}
    return better | {"of": series.set, "kind": series.kind, "judge": series.judge}


def row_of(group: Group) -> dict[str, str]:
    """Return what every row of a method begins with."""
    return {"label": group.label, "kind": kind_of(group), "seeds": group.seeds}


def table(condition: Condition, columns: Sequence[Series]) -> dict[str, Any]:
    """Return the final numbers of every method in some columns."""
    cells = [[group.final(series) for series in columns] for group in condition.main]
    sizes = [{cell.n for row in cells if isinstance(cell := row[index], Cell)} for index in range(len(columns))]
    short = short_names([*condition.safety_sets, *condition.benign_sets])
    heads = [
        head(series)
        | {
            "set": "" if series.set == ALL else short.get(series.set, series.set),
            "n": f"n = {next(iter(size))}" if size and any(size) else "",
        }
        for series, size in zip(columns, sizes, strict=True)
    ]
    rows = [
        row_of(group) | {"cells": [shown(cell, series) for cell, series in zip(row, columns, strict=True)]}
        for group, row in zip(condition.main, cells, strict=True)
    ]
    return {"head": heads, "rows": rows}


def differences(condition: Condition, groups: Sequence[Group], other: Group) -> list[list[dict[str, Any]]]:
    """Return each method minus another in the headline columns, one row a method."""
    rows = tables.contrasts(condition, groups, other)
    return [[tables.shown(one.cell, signed=True, differs=one.differs) for one in row] for row in rows]


def slug(label: str) -> str:
    """Return a label as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
