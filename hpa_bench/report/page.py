"""The report: one self-contained HTML page beside its tables and figures, made from run directories alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpa_bench.errors import UserError
from hpa_bench.measures import ALL, Cell, Series
from hpa_bench.report import figures, tables
from hpa_bench.report.definitions import METRICS, PAPER, PAPER_HEADER
from hpa_bench.report.examples import examples
from hpa_bench.report.groups import Condition, conditions
from hpa_bench.results import read_runs
from hpa_bench.store import RunFolder, atomic


def write_report(runs: Sequence[RunFolder], out: Path, title: str = "hpa-bench report") -> Path:
    """Write report.html, tables/*.csv and figures/*.png and *.svg.

    Runs of different suites, task orders, harmful ratios or training recipes stand apart, each in its own part.

    Args:
        runs: finished or not; what a run did not reach is shown as "missing: reason".
        out: the folder to write into; made if need be.
        title: the page's heading.

    Returns:
        The path of report.html.

    Raises:
        UserError: no runs, two runs of one method and seed, or runs tested on different samples.
    """
    if not runs:
        raise UserError("No runs to report.")
    found = conditions(read_runs(runs))
    tables.write_tables(out / "tables", found)
    several = len(found) > 1
    parts = [_part(part, out / "figures", f"{index}-" if several else "") for index, part in enumerate(found, 1)]
    page = _template().render(
        title=title,
        parts=parts,
        several=several,
        metrics=METRICS,
        paper_header=PAPER_HEADER,
        paper=[["–" if value is None else value for value in row] for row in PAPER],
    )
    path = out / "report.html"
    with atomic(path) as partial:
        partial.write_text(re.sub(r"[ \t]+$", "", page, flags=re.MULTILINE), encoding="utf-8")
    return path


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Autoescape everything: responses and prompts are whatever a model or a data set wrote.
    environment = Environment(
        loader=PackageLoader("hpa_bench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2")


def _part(condition: Condition, folder: Path, prefix: str) -> dict[str, Any]:
    reference = condition.reference
    others = [group for group in condition.groups if group is not reference]
    runs = tables.runs(condition)
    return {
        "title": condition.title,
        "anchor": prefix or "part",
        "condition": condition,
        "setting": _setting(condition),
        "runs": runs,
        "unfinished": [run for run in runs if run["missing"]],
        "headline": _table(condition, condition.headline),
        "continual": _table(condition, condition.continual),
        "safety": {judge: _table(condition, condition.safety(judge)) for judge in condition.judges},
        "sets": {name: _verdicts(condition, name) for name in condition.safety_sets},
        "reference": reference.label,
        "differences": [
            (
                group.label,
                [tables.shown(group.difference(reference, series), signed=True) for series in condition.headline],
            )
            for group in others
        ],
        "costs": _costs(condition),
        "examples": examples(condition),
        "figures": _figures(condition, folder, prefix),
    }


def _setting(condition: Condition) -> list[tuple[str, str]]:
    """Return what the runs of a part have in common, and where they differ in versions or hardware, each value."""
    manifests = [run.manifest for run in condition.runs]
    first = manifests[0]
    lines = [
        ("Suite", first["suite"]),
        ("Tasks, in training order", ", ".join(condition.tasks)),
        ("Safety sets", ", ".join(condition.safety_sets) or "none"),
        ("Benign sets", ", ".join(condition.benign_sets) or "none"),
        ("Judges", ", ".join(condition.judges) or "none"),
        ("Harmful training data", f"{100 * first['harmful_ratio']:g}% of each task's samples"),
    ]
    for name, heading in (("training", "Training"), ("versions", "Versions"), ("hardware", "Hardware")):
        different = dict.fromkeys(_settings(manifest.get(name)) for manifest in manifests)
        lines += [(heading, value) for value in different if value]
    return lines


def _settings(value: Any) -> str:
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    return ", ".join(
        f"{key} {item if isinstance(item, str | int | float) else json.dumps(item)}" for key, item in value.items()
    )


def _table(condition: Condition, columns: Sequence[Series]) -> dict[str, Any]:
    cells = [[group.final(series) for series in columns] for group in condition.groups]
    sizes = [{cell.n for row in cells if isinstance(cell := row[index], Cell)} for index in range(len(columns))]
    short = figures.short_names([*condition.safety_sets, *condition.benign_sets])
    head = [
        {
            "title": METRICS[series.metric].title,
            "set": "" if series.set == ALL else short.get(series.set, series.set),
            "better": {"higher": "↑", "lower": "↓", "": ""}[METRICS[series.metric].better],
            "n": f"n = {next(iter(size))}" if size else "",
        }
        for series, size in zip(columns, sizes, strict=True)
    ]
    rows = [
        (group.label, len(group.runs), [tables.shown(cell) for cell in row])
        for group, row in zip(condition.groups, cells, strict=True)
    ]
    return {"head": head, "rows": rows}


def _verdicts(condition: Condition, name: str) -> dict[str, Any]:
    shares = {
        judge: ("asr", "complied", "neither", "empty") if judge in condition.compliance_judges else ("asr", "empty")
        for judge in condition.judges
    }
    columns = [Series(name, "safety", judge, metric) for judge in condition.judges for metric in shares[judge]]
    table = _table(condition, columns)
    for series, head in zip(columns, table["head"], strict=True):
        head["set"] = "not refused" if series.metric == "asr" else ""
    return table | {"judges": {judge: len(metrics) for judge, metrics in shares.items()}}


def _costs(condition: Condition) -> dict[str, Any]:
    rows = tables.costs(condition)
    steps = [key for key in dict.fromkeys(key for row in rows for key in row) if key.startswith("seconds_")]
    steps = sorted(
        (step for step in steps if step != "seconds_total"), key=lambda step: -max(row.get(step, 0) for row in rows)
    )
    return {"rows": rows, "steps": [(step, step.removeprefix("seconds_").replace("_", " ")) for step in steps]}


def _figures(condition: Condition, folder: Path, prefix: str) -> dict[str, Any]:
    drawn: dict[str, Any] = {"accuracy_matrix": [], "forgetting": "", "trajectory": "", "scatter": ""}
    tested = [group for group in condition.groups if any(run.stages for run in group.runs)]
    for group in tested:
        name = f"{prefix}accuracy-matrix-{re.sub(r'[^a-z0-9]+', '-', group.label.lower()).strip('-')}"
        drawn["accuracy_matrix"].append(figures.save(figures.accuracy_matrix(group, condition), folder, name))
    if not tested:
        return drawn
    drawn["forgetting"] = figures.save(figures.forgetting_curves(condition), folder, f"{prefix}forgetting")
    judge = condition.judges[0] if condition.judges else ""
    masr = Series(ALL, "safety", judge, "masr")
    if any(isinstance(group.cell(0, masr), Cell) for group in tested):
        figure = figures.safety_trajectory(condition, judge)
        drawn["trajectory"] = figures.save(figure, folder, f"{prefix}safety-trajectory")
        figure = figures.safety_against_accuracy(condition, judge)
        drawn["scatter"] = figures.save(figure, folder, f"{prefix}safety-against-accuracy")
    return drawn
