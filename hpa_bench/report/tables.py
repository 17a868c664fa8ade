"""The report's tables: long ones for CSV files, and the cells of those that are shown."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpa_bench.metrics import METRICS, UPDATE, continual_names, defined_metrics
from hpa_bench.redact import csv_cell
from hpa_bench.report.columns import (
    beside_accuracy,
    continual_columns,
    form_columns,
    headline,
    overlap_columns,
    per_sample,
    plane,
    safety_columns,
    update_columns,
    verdict_columns,
)
from hpa_bench.report.conditions import Condition, once
from hpa_bench.report.groups import Group
from hpa_bench.report.noise import Spread
from hpa_bench.report.ranking import LEVEL, best_and_second, corrected, ranked
from hpa_bench.results.manifest import UNKNOWN
from hpa_bench.results.measures import ALL, Cell, Key, Series
from hpa_bench.results.update import of_stage, update_series

Row = dict[str, Any]
Found = Cell | str
"""A number, or why there is none."""

MARKS = (
    "The best of a column is bold and the second best underlined, each only where its paired differences to every"
    " method ranked below it are told from 0 (5%, Holm’s correction over these methods). zero_shot and joint are"
    " references and not ranked."
)
NOISE = (
    "Noise floor, percentage points: how far runs of one method and seed lie apart whose trainings begin 1e-7 of each"
    " value away, so that they differ in rounding alone: sd with its 95% interval (chi-squared, for normal numbers),"
    " and range. They are in no other table’s mean, rank or test."
)
COSTS = {
    "seconds_train": "Train, s",
    "seconds_adapt": "Edit, s",
    "peak_memory_bytes": "Peak memory",
    "state_bytes": "State",
    "trainable_parameters": "Trained parameters",
}
"""The cost columns of the main table."""
VERSIONS = ("hpa-bench", "torch", "transformers")
"""The packages whose versions stand beside each run."""


class MainRow(NamedTuple):
    """A row of a main table; `marks` holds "best", "second" or "" for each cell."""

    group: Group
    cells: list[Found]
    marks: list[str]
    left: list[Found]
    """What edits leave of updates (see `update_columns`)."""
    costs: list[str]

    @property
    def missing(self) -> str:
        """Why the method has no number at all; empty where it has one."""
        reasons = {cell for cell in self.cells if isinstance(cell, str) and cell != "-"}
        return reasons.pop() if len(reasons) == 1 and all(isinstance(cell, str) for cell in self.cells) else ""


class AcrossRow(NamedTuple):
    """A method across conditions: for each condition and each of AP and MASR the number, its rank and its mark."""

    label: str
    cells: list[tuple[Found, int, str]]


class Contrast(NamedTuple):
    """One method minus another, with its p-value as it is and as corrected over the methods of its table."""

    cell: Found
    p_holm: float | None

    @property
    def p(self) -> float | None:
        """The p-value of no difference, not corrected."""
        return self.cell.p if isinstance(self.cell, Cell) else None

    @property
    def differs(self) -> bool:
        """Whether the difference is told from 0."""
        return self.p_holm is not None and self.p_holm < LEVEL


@once
def main(condition: Condition) -> list[MainRow]:
    """Return the main table: every method's headline numbers, what is best, and its costs."""
    columns = headline(condition)
    marks = [best_and_second(series, condition.main) for series in columns]
    spent = {row["method"]: row for row in costs(condition)}
    return [
        MainRow(
            group,
            [group.final(series) for series in columns],
            [marked.get(group.label, "") for marked in marks],
            [group.final(series) for series in update_columns()],
            [amount(name, spent[group.label].get(name)) for name in COSTS],
        )
        for group in condition.main
    ]


def across(listed: Sequence[Condition]) -> list[AcrossRow]:
    """Return AP and MASR of the methods that stand in several conditions; ranks and marks are among these alone."""
    by_label = [{group.label: group for group in condition.main} for condition in listed]
    labels = list(dict.fromkeys(label for groups in by_label for label in groups))
    labels = [label for label in labels if sum(label in groups for groups in by_label) > 1]
    cells: dict[str, list[tuple[Found, int, str]]] = {label: [] for label in labels}
    for condition, groups in zip(listed, by_label, strict=True):
        among = [groups[label] for label in labels if label in groups]
        for series in plane(condition):
            placed = [(group.label, group.final(series)) for group in ranked(series, among)]
            values = [cell.value for _, cell in placed if isinstance(cell, Cell)]
            ranks = {label: values.index(value) + 1 for (label, _), value in zip(placed, values, strict=True)}
            marks = best_and_second(series, among)
            for label in labels:
                cell = groups[label].final(series) if label in groups else "-"
                cells[label].append((cell, ranks.get(label, 0), marks.get(label, "")))
    return [AcrossRow(label, cells[label]) for label in labels]


def amount(name: str, value: float | None) -> str:
    """Return a cost as shown: seconds, parameters, or bytes in binary units."""
    if value is None:
        return "–"
    if name.startswith("seconds"):
        return f"{value:.1f}"
    if not name.endswith("bytes"):
        return f"{value:,}"
    unit, size = next((pair for pair in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if value >= pair[1]), ("B", 1))
    return f"{value / size:.{0 if size == 1 else 1}f} {unit}" if value else "0"


def setting(values: Mapping[str, Any]) -> str:
    """Return settings as shown."""
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    """Return a number as shown, zero without a sign and minus as the true sign."""
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def intervals(condition: Condition) -> str:
    """Return what the 95% intervals of a condition's numbers are over, for captions."""
    tested = {count for group in condition.main if (count := sum(bool(run.stages) for run in group.runs))}
    if tested <= {1}:
        return "95% intervals over test samples only (one seed)"
    alone = "; of methods with one seed, over test samples only" if 1 in tested else ""
    return f"95% intervals over seeds and test samples{alone}"


def code(condition: Condition) -> str:
    """Return which commits the runs of a condition were made from, for captions."""
    commits = dict.fromkeys(run.manifest.code for run in condition.begun)
    return f"Made from commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}."


def shown(
    cell: Found, signed: bool = False, mark: str = "", rank: int = 0, digits: int = 1, differs: bool = False
) -> dict[str, Any]:
    """Return a cell as the page shows it: value, interval, sd over seeds, or the reason why there is none."""
    if isinstance(cell, str):
        undefined = cell == "-" or cell.startswith("undefined")
        return {"text": "–" if undefined else cell, "about": "" if cell == "-" else cell, "absent": True}
    return {
        "text": number(cell.value, digits, signed),
        "interval": f"[{number(cell.low, digits)}, {number(cell.high, digits)}]" if cell.has_interval else "",
        "sd": "" if cell.sd is None else f"sd {number(cell.sd, digits)}",
        "about": _about(cell),
        "differs": differs,
        "mark": mark,
        "rank": f"#{rank}" if rank else "",
    }


def _about(cell: Cell) -> str:
    if not cell.n:  # A number of the weights, or of the trained model's own answers.
        return f"{cell.seeds} seeds: interval over seeds only" if cell.seeds > 1 else "1 seed"
    seeds = f"{cell.seeds} seeds" if cell.seeds > 1 else "1 seed: interval over test samples only"
    return f"n = {cell.n} samples, {seeds}"


def absent(reason: str) -> str:
    """Return what stands in a small cell without a number: a dash where there is none to be had, else "missing"."""
    return "–" if reason == "-" or reason.startswith("undefined") else reason.partition(":")[0]


def about_matrix(condition: Condition) -> str:
    """Return what a matrix that is not measured in full leaves out, for captions; "" where it is."""
    manifest = condition.runs[0].manifest
    if manifest.matrix == "full":
        return ""
    group = max(condition.main, key=lambda group: group.last)
    curriculum, tasks = group.runs[0].curriculum, manifest.tasks
    lost = defined_metrics(curriculum, tasks) - defined_metrics(curriculum, tasks, manifest.matrix)
    titles = ", ".join(METRICS[name].title for name in continual_names() if name in lost)
    scored = "the tasks trained by then" if manifest.matrix == "seen" else "those just trained"
    return (
        f"evaluation.matrix is {manifest.matrix}: of the tasks, {scored} alone are scored between the first and the"
        " last stage" + (f", so there is no {titles}." if titles else ".")
    )


def shown_spread(found: Spread | str) -> dict[str, Any]:
    """Return how a number spreads over noise runs as the page shows it."""
    if isinstance(found, str):
        return shown(found)
    return {
        "text": number(found.sd),
        "interval": f"[{number(found.low)}, {number(found.high)}]",
        "sd": f"range {number(found.range)}",
        "about": f"{found.repeats} noise runs, from {number(found.least)} to {number(found.most)}",
        "mark": "",
        "rank": "",
    }


def about_noise(condition: Condition) -> str:
    """Return what the noise floor is, and which methods can have no noise run."""
    untrained = [group.label for group in condition.main if not group.last]
    if not untrained:
        return NOISE
    has = (
        "have no trained parameter, and so no noise" if len(untrained) > 1 else "has no trained parameter, and so none"
    )
    return f"{NOISE} {' and '.join(untrained)} {has}."


def title(series: Series) -> str:
    """Return the heading of a column."""
    return METRICS[series.metric].title + ("" if series.set == ALL else f" {series.set}")


def results(condition: Condition) -> list[Row]:
    """Return every number after the last stage, one row a method, judge, set and metric."""
    marks = {series: best_and_second(series, condition.main) for series in headline(condition)}
    return [
        about(condition, group, column)
        | values(group.final(column), group)
        | {"mark": marks.get(column, {}).get(group.label, "")}
        for group in condition.groups
        for column in _result_columns(condition)
    ]


def seeds(condition: Condition) -> list[Row]:
    """Return every number after the last stage of every run, of which `results` has the means over seeds."""
    columns = _result_columns(condition)
    return [
        {"condition": condition.title, "method": group.label, "seed": run.seed}
        | column._asdict()
        | {"n": measure.n or "", "value": round(measure.value, 4) + 0.0}
        for group in condition.groups
        for run in group.runs
        for column in columns
        if (measure := run.measure(Key(group.last, column)))
    ]


def noise(condition: Condition) -> list[Row]:
    """Return how every number after the last stage spreads over the noise runs of a method."""
    rows: list[Row] = []
    for floor in condition.noise:
        for column in _result_columns(condition):
            found = floor.spread(column)
            if found == "-":
                continue
            row: Row = {"condition": condition.title, "method": floor.label} | column._asdict()
            if isinstance(found, Spread):
                values_of = found._asdict() | {"range": found.range}
                row |= {name: round(value, 4) + 0 for name, value in values_of.items()} | {"missing": ""}
            else:
                row |= {"missing": found}
            rows.append(row)
    return rows


@once
def _result_columns(condition: Condition) -> list[Series]:
    aggregates = [
        column for judge in condition.judges for column in safety_columns(condition, judge) if column.set == ALL
    ]
    shares = [
        share
        for judge in condition.judges
        for name in condition.safety_sets
        for share in verdict_columns(condition, name, judge)
    ]
    kept = overlap_columns(condition)
    updates = [*update_columns(), *kept, *(series._replace(metric="chance_overlap") for series in kept)]
    tasks = [*continual_columns(), *beside_accuracy(condition), *form_columns(condition)]
    return list(dict.fromkeys([*tasks, *updates, *aggregates, *per_sample(condition), *shares]))


def stages(condition: Condition) -> list[Row]:
    """Return every per-set number and MASR, stage by stage."""
    averages = [Series(ALL, "task", "", "accuracy"), *form_columns(condition)]
    averages += [series for series in beside_accuracy(condition) if series.metric == "mif"]
    if condition.safety_sets:
        averages.append(Series(ALL, "safety", "", "incoherent"))
    for judge in condition.judges if condition.safety_sets else ():
        averages += [Series(ALL, "safety", judge, metric) for metric in ("masr", "dasr")]
    return [
        {"stage": stage, "tasks_trained": group.runs[0].trained(stage)}
        | about(condition, group, series)
        | values(group.cell(stage, series), group)
        for group in condition.groups
        for stage in range(group.last + 1)
        for series in [*averages, *per_sample(condition), *_updates_of(group, stage)]
    ]


def _updates_of(group: Group, stage: int) -> list[Series]:
    trained = group.runs[0].curriculum[stage - 1] if stage else []
    return [update_series(metric, of_stage(trained)) for metric in UPDATE] if trained else []


def contrasts(condition: Condition, groups: Sequence[Group], other: Group) -> list[list[Contrast]]:
    """Return each method minus another, one row a method, corrected over the methods of each headline column."""
    return paired([(other, group) for group in groups], headline(condition))


def paired(pairs: Sequence[tuple[Group, Group]], columns: Sequence[Series]) -> list[list[Contrast]]:
    """Return the second of each pair minus the first, one row a pair, corrected over the pairs of each column."""
    found = []
    for series in columns:
        family = [group.difference(other, series) for other, group in pairs]
        found.append([Contrast(cell, p) for cell, p in zip(family, corrected(family), strict=True)])
    return [list(row) for row in zip(*found, strict=True)]


def differences(condition: Condition) -> list[Row]:
    """Return each method minus the references, and each setting minus its default, paired by seed and by sample."""
    families = [
        ([group for group in condition.main if group is not reference], reference) for reference in condition.references
    ]
    families += [(others, default) for default, *others in condition.settings.values()]
    return [
        about(condition, group, series) | {"reference": other.label} | contrast_values(contrast, group)
        for groups, other in families
        for group, row in zip(groups, contrasts(condition, groups, other), strict=True)
        for series, contrast in zip(headline(condition), row, strict=True)
    ]


def conditions(listed: Sequence[Condition]) -> list[Row]:
    """Return AP and MASR of the methods that stand in several conditions, with their ranks."""
    columns = [(condition, series) for condition in listed for series in plane(condition)]
    found = []
    for row in across(listed):
        for (condition, series), (cell, rank, mark) in zip(columns, row.cells, strict=True):
            group = next((group for group in condition.main if group.label == row.label), None)
            if group:
                row_of = about(condition, group, series) | values(cell, group)
                found.append(row_of | {"rank": rank or "", "mark": mark})
    return found


@once
def costs(condition: Condition) -> list[Row]:
    """Return seconds by step, memory and sizes: means over complete runs, summed or maximal over stages.

    `seconds_shared` are those of the total that another run had spent, for several.
    """
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
        shared = sum(sum(cost.get("shared", {}).values()) for costs_of_run in complete for cost in costs_of_run)
        row |= {"seconds_shared": round(shared / len(complete), 3)} if shared else {}
        row |= {size: round(value) for size, value in sizes.items()}
        row["missing"] = "" if complete else f"missing: {group.missing}"
        rows.append(row)
    return rows


def runs(condition: Condition) -> list[Row]:
    """Return what was run, one row a run."""
    return [
        {
            "condition": condition.title,
            "method": run.label,
            "seed": run.seed,
            "noise": run.noise or "",
            "stages": f"{max(len(run.stages) - 1, 0)} of {run.last}",
            "started": run.manifest.started or UNKNOWN,
            "git_commit": run.manifest.code,
            **{name: run.manifest.versions.get(name, UNKNOWN) for name in VERSIONS},
            "cpu": run.manifest.hardware.cpu or UNKNOWN,
            "missing": run.missing,
        }
        for run in condition.all_runs
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; a column that a row does not have is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = list(dict.fromkeys(key for row in rows for key in row))
    texts: dict[str, str] = {}  # A few texts, such as names, fill most cells.

    def cell(value: Any) -> Any:
        if type(value) is not str:
            return value
        if value not in texts:
            texts[value] = csv_cell(value)
        return texts[value]

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([cell(row.get(key, "")) for key in header] for row in rows)


def about(condition: Condition, group: Group, series: Series) -> Row:
    """Return the first columns of a CSV row: what it is a number of."""
    return {"condition": condition.title, "method": group.label} | series._asdict()


def contrast_values(contrast: Contrast, group: Group) -> Row:
    """Return the last columns of a CSV row of a difference: those of a number, and its p-values."""
    named = (("p", contrast.p), ("p_holm", contrast.p_holm))
    return values(contrast.cell, group) | {name: "" if p is None else f"{p:.4g}" for name, p in named}


def values(cell: Found, group: Group) -> Row:
    """Return the last columns of a CSV row: the number with n, interval and sd, or why it is missing."""
    blank: Row = {"seeds": 0, "n": "", "value": "", "low": "", "high": "", "sd": "", "missing": ""}
    if isinstance(cell, str):
        return blank | {"missing": "not defined" if cell == "-" else cell}
    names = ("value", "low", "high") if cell.has_interval else ("value",)
    numbers = {name: round(getattr(cell, name), 4) + 0.0 for name in names}
    left_out = len(group.runs) - cell.seeds
    return (
        blank
        | {"seeds": cell.seeds, "n": cell.n or "", "sd": "" if cell.sd is None else round(cell.sd, 4)}
        | {"missing": f"missing: {left_out} of {len(group.runs)} seeds" if left_out else ""}
        | numbers
    )
