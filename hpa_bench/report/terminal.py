"""The table that a command prints at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpa_bench.measures import Cell, Series
from hpa_bench.report import tables
from hpa_bench.report.figures import short_names
from hpa_bench.report.groups import Condition, conditions
from hpa_bench.results import read_runs
from hpa_bench.store import RunFolder

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def terminal_table(runs: Sequence[RunFolder]) -> RenderableType:
    """Return what rich prints: the main numbers of each method and the accuracy of each task after each stage."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for condition in conditions(read_runs(runs)):
        parts.append(_headline(condition))
        for run in condition.runs:
            if run.missing:
                parts.append(Text(f"{run.label}, seed {run.seed}: missing: {run.missing}", style="yellow"))
        parts += [_matrix(condition, index) for index, group in enumerate(condition.groups) if group.last]
    return Group(*parts)


def _headline(condition: Condition) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{condition.title}: percent, with 95% intervals", title_justify="left")
    longest = max(len(word) for group in condition.groups for word in group.label.split())
    table.add_column("method", min_width=min(longest, 24), overflow="fold")
    table.add_column("seeds", justify="right")
    for series in condition.headline:
        table.add_column(tables.title(series), justify="right", no_wrap=True)
    for group in condition.groups:
        row = [Text(group.label), Text(str(len(group.runs)))]
        for series in condition.headline:
            cell = tables.shown(group.final(series))
            # The reason stands once below the table: seven times in narrow columns, it would drown the numbers.
            row.append(Text(cell["text"].split(":")[0]))
            if "interval" in cell:
                row[-1].append("\n" + cell["interval"], style="dim")
        table.add_row(*row)
    return table


def _matrix(condition: Condition, index: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    group, short = condition.groups[index], short_names(condition.tasks)
    curriculum = group.runs[0].curriculum
    table = Table(title=Text(f"{group.label}: accuracy after each stage, percent"), title_justify="left")
    table.add_column("stage")
    for task in condition.tasks:
        table.add_column(short[task], justify="right")
    for stage in range(group.last + 1):
        trained = curriculum[stage - 1] if stage else []
        row = []
        for task in condition.tasks:
            cell = group.cell(stage, Series(task, "task", "", "accuracy"))
            text = tables.number(cell.value) if isinstance(cell, Cell) else cell.split(":")[0]
            row.append(Text(text, style="bold" if task in trained else ""))
        name = short[trained[0]] if len(trained) == 1 else f"{len(trained)} tasks" if trained else "aligned"
        table.add_row(Text(f"{stage} {name}"), *row)
    return table
