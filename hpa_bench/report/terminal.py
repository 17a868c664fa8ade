"""The table that a command prints at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hpa_bench.names import short_names
from hpa_bench.report import tables
from hpa_bench.report.columns import headline
from hpa_bench.report.conditions import Condition, conditions
from hpa_bench.report.tuned import Side, sides
from hpa_bench.results.measures import Cell, Series
from hpa_bench.results.runs import Run
from hpa_bench.results.tuned import Tuned

MATRICES = 6
"""Methods up to which the accuracy after each stage is printed too."""
_STYLE = {"best": "bold", "second": "underline", "": ""}


def terminal_table(runs: Sequence[Run] | Sequence[Condition], tuned: Tuned | None = None) -> RenderableType:
    """Return what rich prints: the main numbers of each method, of its settings, and, of few, accuracy by stage.

    Args:
        runs: finished or not; or the conditions that they were sorted into.
        tuned: as of `conditions`.
    """

    parts: list[RenderableType] = []
    for condition in conditions(runs, tuned):
        parts.append(_headline(condition))
        if any(mark for row in tables.main(condition) for mark in row.marks):
            parts.append(Text(tables.MARKS, style="dim"))
        if condition.noise:
            parts += [_noise(condition), Text(tables.about_noise(condition), style="dim")]
        parts += [_settings(condition, method) for method in condition.settings]
        if condition.tuned is not None and (found := sides(condition)):
            parts.append(_tuned(condition, condition.tuned.trials, found))
        for run in condition.all_runs:
            if run.missing:
                which = f"{run.label}, seed {run.seed}" + (f", noise {run.noise}" if run.noise else "")
                parts.append(Text(f"{which}: missing: {run.missing}", style="yellow"))
        if len(condition.main) <= MATRICES:
            parts += [_matrix(condition, index) for index, group in enumerate(condition.main) if group.last]
    return Group(*parts)


def _headline(condition: Condition) -> Table:
    table = _table(condition, f"{condition.title}: percent, with {tables.intervals(condition)}", "method")
    for row in tables.main(condition):
        _add_row(table, row.group.label, row.group.seeds, row.cells, row.marks)
    return table


def _noise(condition: Condition) -> Table:
    table = _table(condition, f"{condition.title}: noise floor, sd and range", "method", "runs")
    for floor in condition.noise:
        cells = [tables.shown_spread(floor.spread(series)) for series in headline(condition)]
        _add_cells(table, floor.label, floor.repeats, cells)
    return table


def _settings(condition: Condition, method: str) -> Table:
    default, *others = condition.settings[method]
    table = _table(condition, f"{condition.title}: settings of {method}", "setting")
    for group in (default, *others):
        label = tables.setting(group.changed(default)) or "default"
        cells = [group.final(series) for series in headline(condition)]
        _add_row(table, label, group.seeds, cells, [""] * len(cells))
    return table


def _tuned(condition: Condition, trials: int, found: Sequence[Side]) -> Table:
    table = _table(condition, f"{condition.title}: defaults and tuned, {trials} trials a method", "method")
    for side in found:
        seeds = side.group.seeds if side.group else "0"
        _add_row(table, f"{side.method}, {side.setting}", seeds, side.cells, [""] * len(side.cells))
    return table


def _table(condition: Condition, title: str, first: str, second: str = "seeds") -> Table:

    # Texts, since rich reads markup in plain strings, and names may hold any sign.
    table = Table(title=Text(title, "table.title"), title_justify="left")
    longest = max(len(word) for group in condition.groups for word in group.label.split())
    table.add_column(first, min_width=min(longest, 24), overflow="fold")
    table.add_column(second, justify="right")
    for series in headline(condition):
        table.add_column(Text(tables.title(series)), justify="right", no_wrap=True)
    return table


def _add_row(table: Table, label: str, seeds: str, cells: Sequence[tables.Found], marks: Sequence[str]) -> None:
    shown = [tables.shown(found, mark=mark) | {"sd": ""} for found, mark in zip(cells, marks, strict=True)]
    _add_cells(table, label, seeds, shown)


def _add_cells(table: Table, label: str, count: str, cells: Sequence[Mapping[str, Any]]) -> None:
    row = [Text(label), Text(count)]
    for cell in cells:
        # The reason stands once below the table: seven times in narrow columns, it would drown the numbers.
        row.append(Text())
        row[-1].append(cell["text"].split(":")[0], style=_STYLE[cell.get("mark", "")])
        for below in ("interval", "sd"):
            if cell.get(below):
                row[-1].append("\n" + cell[below], style="dim")
    table.add_row(*row)


def _matrix(condition: Condition, index: int) -> Table:

    group, short = condition.main[index], short_names(condition.tasks)
    curriculum = group.runs[0].curriculum
    table = Table(title=Text(f"{group.label}: accuracy after each stage, percent"), title_justify="left")
    table.add_column("stage")
    for task in condition.tasks:
        table.add_column(Text(short[task]), justify="right")
    for stage in range(group.last + 1):
        trained = curriculum[stage - 1] if stage else []
        row = []
        for task in condition.tasks:
            cell = group.cell(stage, Series(task, "task", "", "accuracy"))
            text = tables.number(cell.value) if isinstance(cell, Cell) else tables.absent(cell)
            row.append(Text(text, style="bold" if task in trained else ""))
        name = short[trained[0]] if len(trained) == 1 else f"{len(trained)} tasks" if trained else "aligned"
        table.add_row(Text(f"{stage} {name}"), *row)
    return table
