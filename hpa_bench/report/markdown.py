"""The main table and the table across conditions as Markdown, for a README."""

from __future__ import annotations

import html
from collections.abc import Sequence

from hpa_bench.metrics import METRICS
from hpa_bench.report import tables
from hpa_bench.report.columns import headline, plane, update_columns
from hpa_bench.report.conditions import Condition
from hpa_bench.report.tuned import budget, sides, tuned_files
from hpa_bench.results.measures import Cell

ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
# GitHub shows <ins> as underlined and drops <u>.
_MARKED = {"best": "**{}**", "second": "<ins>{}</ins>", "": "{}"}


def main_table(condition: Condition) -> str:
    """Return a condition's main table with its costs; below it, what the marks mean and why numbers are missing."""
    rows = tables.main(condition)
    columns = [*headline(condition), *update_columns()]
    metrics = [tables.title(series) + ARROWS[METRICS[series.metric].better] for series in columns]
    head = ["method", "seeds", *metrics, *tables.COSTS.values()]
    lines = [
        [
            f"`{row.group.label}`",
            row.group.seeds,
            *(_cell(cell, mark) for cell, mark in zip(row.cells, row.marks, strict=True)),
            *(
                _cell(cell, digits=METRICS[series.metric].digits)
                for cell, series in zip(row.left, update_columns(), strict=True)
            ),
            *row.costs,
        ]
        for row in rows
    ]
    notes = [f"{condition.title}: percent, mean over seeds, {tables.intervals(condition)}. {tables.MARKS}"]
    notes += [note for note in (tables.about_matrix(condition), tables.code(condition)) if note]
    notes += [f"`{row.group.label}`: missing: {html.escape(row.group.missing)}." for row in rows if row.group.missing]
    return _table(head, lines) + "\n" + "\n\n".join(notes) + "\n"


def noise_table(condition: Condition) -> str:
    """Return the noise floor of each method that has noise runs: sd with its interval, and range."""
    columns = headline(condition)
    lines = []
    for floor in condition.noise:
        cells = [tables.shown_spread(floor.spread(series)) for series in columns]
        shown = [
            f"{cell['text']} {cell['interval']}, {cell['sd']}" if "interval" in cell else cell["text"].partition(":")[0]
            for cell in cells
        ]
        lines.append([f"`{floor.label}`", floor.repeats, *shown])
    note = f"{condition.title}. {tables.about_noise(condition)}"
    return _table(["method", "noise runs", *map(tables.title, columns)], lines) + f"\n{note}\n"


def tuned_table(conditions: Sequence[Condition]) -> str:
    """Return methods with their defaults and as tuned, with their budget; one table a condition."""
    found = []
    for condition in conditions:
        lines = [
            [
                f"`{side.method}`",
                side.setting,
                side.group.seeds if side.group else "0",
                *(_cell(c, "") for c in side.cells),
            ]
            for side in sides(condition)
        ]
        if lines:
            head = ["method", "setting", "seeds", *map(tables.title, headline(condition))]
            found.append(f"{condition.title}: percent, {tables.intervals(condition)}.\n\n{_table(head, lines)}")
    return "\n".join([*found, *(" ".join(budget(tuned)) for tuned in tuned_files(conditions))]) + "\n"


def across_table(conditions: Sequence[Condition]) -> str:
    """Return AP and MASR of the methods that stand in several conditions, with their ranks."""
    columns = [f"{tables.title(series)}, {part.short}" for part in conditions for series in plane(part)]
    lines = [
        [f"`{row.label}`", *(_cell(cell, mark) + (f" #{rank}" if rank else "") for cell, rank, mark in row.cells)]
        for row in tables.across(conditions)
    ]
    over = "; ".join(dict.fromkeys(tables.intervals(part) for part in conditions))
    note = f"Percent, with {over}; #1 is the best of a column among these methods, zero_shot and joint aside."
    return _table(["method", *columns], lines) + f"\n{note}\n"


def _cell(cell: tables.Found, mark: str = "", digits: int = 1) -> str:
    if not isinstance(cell, Cell):
        return "–" if cell == "-" or cell.startswith("undefined") else "missing"
    value = _MARKED[mark].format(tables.number(cell.value, digits))
    interval = f" [{tables.number(cell.low, digits)}, {tables.number(cell.high, digits)}]"
    return value + interval if cell.has_interval else value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
