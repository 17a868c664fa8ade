"""The report's tables: long ones for CSV files, and the cells of those that are shown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpa_bench.measures import ALL, Cell, Series
from hpa_bench.report.definitions import METRICS, PAPER, PAPER_HEADER
from hpa_bench.report.groups import Condition, Group

Row = dict[str, Any]


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    """Return a number as shown, zero without a sign and minus as the true sign."""
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def shown(cell: Cell | str, signed: bool = False) -> dict[str, Any]:
    """Return a cell as the page shows it: value, interval, sd over seeds, or the reason why there is none."""
    if isinstance(cell, str):
        return {"text": "–" if cell == "-" else cell, "absent": True}
    return {
        "text": number(cell.value, signed=signed),
        "interval": f"[{number(cell.low)}, {number(cell.high)}]",
        "sd": "" if cell.sd is None else f"sd {number(cell.sd)}",
        "about": f"n = {cell.n} samples, {cell.seeds} seed{'s' if cell.seeds > 1 else ''}",
        "excludes_zero": cell.low > 0 or cell.high < 0,
    }


def title(series: Series) -> str:
    """Return the heading of a column."""
    return METRICS[series.metric].title + ("" if series.set == ALL else f" {series.set}")


def results(condition: Condition) -> list[Row]:
    """Return every number after the last stage, one row a method, judge, set and metric."""
    aggregates = [column for judge in condition.judges for column in condition.safety(judge) if column.set == ALL]
    columns = [*condition.continual, *aggregates, *condition.per_sample()]
    return [
        _about(condition, group, column) | _values(group.final(column), group)
        for group in condition.groups
        for column in columns
    ]


def stages(condition: Condition) -> list[Row]:
    """Return every per-set number and MASR, stage by stage."""
    averages = [Series(ALL, "task", "", "accuracy")]
    for judge in condition.judges if condition.safety_sets else ():
        averages += [Series(ALL, "safety", judge, metric) for metric in ("masr", "dasr")]
    return [
        {"stage": stage, "tasks_trained": group.runs[0].trained(stage)}
        | _about(condition, group, series)
        | _values(group.cell(stage, series), group)
        for group in condition.groups
        for stage in range(group.last + 1)
        for series in [*averages, *condition.per_sample()]
    ]


def differences(condition: Condition) -> list[Row]:
    """Return each method minus the reference, paired by seed and by sample."""
    reference = condition.reference
    return [
        _about(condition, group, series)
        | {"reference": reference.label}
        | _values(group.difference(reference, series), group)
        for group in condition.groups
        if group is not reference
        for series in condition.headline
    ]


def costs(condition: Condition) -> list[Row]:
    """Return seconds by step, memory and sizes: means over complete runs, summed or maximal over stages."""
    rows: list[Row] = []
    for group in condition.groups:
        complete = [[stage.cost for stage in run.stages] for run in group.runs if not run.missing]
        row: Row = {"condition": condition.title, "method": group.label, "runs": len(complete)}
        seconds: dict[str, float] = {}
        sizes: dict[str, float] = {}
        for costs_of_run in complete:
            for cost in costs_of_run:
                for step, spent in cost.get("seconds", {}).items():
                    seconds[step] = seconds.get(step, 0.0) + spent / len(complete)
            for size in ("peak_memory_bytes", "trainable_parameters", "state_bytes"):
                known = [cost[size] for cost in costs_of_run if cost.get(size) is not None]
                if known:
                    sizes[size] = sizes.get(size, 0) + max(known) / len(complete)
        row |= {f"seconds_{step}": round(spent, 3) for step, spent in seconds.items()}
        row |= {"seconds_total": round(sum(seconds.values()), 3)} if seconds else {}
        row |= {size: round(value) for size, value in sizes.items()}
        row["missing"] = "" if complete else f"missing: {group.runs[0].missing}"
        rows.append(row)
    return rows


def runs(condition: Condition) -> list[Row]:
    """Return what was run, one row a run."""
    return [
        {
            "condition": condition.title,
            "method": run.label,
            "seed": run.seed,
            "stages": f"{max(len(run.stages) - 1, 0)} of {run.last}",
            "started": run.manifest.get("started", ""),
            "git_commit": str(run.manifest.get("git_commit") or "")[:12],
            "missing": run.missing,
        }
        for run in condition.runs
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; a column that a row does not have is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tables(folder: Path, conditions: Iterable[Condition]) -> None:
    """Write every table as CSV; conditions stand below one another, never averaged."""
    listed = list(conditions)
    for table in (results, stages, differences, costs, runs):
        write_csv(folder / f"{table.__name__}.csv", [row for condition in listed for row in table(condition)])
    paper = [dict(zip(PAPER_HEADER, row, strict=True)) for row in PAPER]
    write_csv(folder / "paper_llava_7b_not_comparable.csv", paper)


def _about(condition: Condition, group: Group, series: Series) -> Row:
    return {"condition": condition.title, "method": group.label} | series._asdict()


def _values(cell: Cell | str, group: Group) -> Row:
    blank: Row = {"seeds": 0, "n": "", "value": "", "low": "", "high": "", "sd": "", "missing": ""}
    if isinstance(cell, str):
        return blank | {"missing": "not defined" if cell == "-" else cell}
    values = {name: round(getattr(cell, name), 4) + 0.0 for name in ("value", "low", "high")}
    left_out = len(group.runs) - cell.seeds
    return (
        blank
        | {"seeds": cell.seeds, "n": cell.n, "sd": "" if cell.sd is None else round(cell.sd, 4)}
        | {"missing": f"missing: {left_out} of {len(group.runs)} seeds" if left_out else ""}
        | values
    )
