"""One condition as the page's templates take it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hpa_bench.names import short_names
from hpa_bench.report import figures, tables, trust
from hpa_bench.report.columns import (
    accuracy_columns,
    form_columns,
    headline,
    judged_columns,
    update_columns,
    verdict_columns,
)
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import Group
from hpa_bench.report.overlap import overlap_table
from hpa_bench.report.page import answer, cells, charts
from hpa_bench.report.page.drawing import keep_rate_name
from hpa_bench.report.plasticity import match
from hpa_bench.report.ranking import shown_groups
from hpa_bench.results.manifest import Hardware, Numerics
from hpa_bench.results.measures import Cell, Series


def part_of(condition: Condition, anchor: str, show_unsafe: bool) -> dict[str, Any]:
    """Return everything that the page says of a condition but its figures and examples, which are made meanwhile.

    Args:
        condition: the condition.
        anchor: the name of its part of the page.
        show_unsafe: whether harmful requests, responses to them and their images are shown.
    """
    runs = tables.runs(condition)
    return {
        "title": condition.title,
        "short": condition.short,
        "anchor": anchor,
        "condition": condition,
        "setting": _setting(condition),
        "runs": runs,
        "unfinished": [run for run in runs if run["missing"]],
        "harmful": _harmful(condition),
        "lead": answer.lead(condition),
        "main": _main(condition),
        "noise": _noise(condition),
        "settings": [_settings_of(condition, method) for method in condition.settings],
        "forms": bool(form_columns(condition)),
        "continual": cells.table(condition, accuracy_columns(condition)),
        "safety": {judge: _judged(condition, judge) for judge in condition.judges},
        "sets": {name: _verdicts(condition, name, show_unsafe) for name in condition.safety_sets},
        "agreement": trust.agreement_tables(condition),
        "reference": condition.reference.label,
        "intervals": tables.intervals(condition),
        "matrix": f" {said}" if (said := tables.about_matrix(condition)) else "",
        "differences": _differences(condition),
        "matrices": [_matrix(condition, group) for group in condition.main if any(run.stages for run in group.runs)],
        "updates": _updates(condition),
        "costs": _costs(condition),
        "examples": [],
        "some_examples": len(shown_groups(condition)) < len(condition.main),
        "plasticity": _plasticity(condition),
        "overlap": overlap_table(condition),
        "figures": {},
        "drawable": figures.drawable(condition),
        "charts": charts.data(condition, anchor),
    }


def _harmful(condition: Condition) -> str:
    """Return how many training samples harmful pairs replace; empty where none."""
    if not condition.harmful_ratio:
        return ""
    poisoned = [run.manifest.poisoned for run in condition.runs]
    replaced = max(sum(map(len, tasks.values())) for tasks in poisoned)
    count = f" ({replaced} over all tasks)" if replaced else ""
    return f"{100 * condition.harmful_ratio:g}% of each task’s training samples{count}"


def _main(condition: Condition) -> dict[str, Any]:
    rows = [
        cells.row_of(row.group)
        | {
            "missing": row.missing,
            "cells": [tables.shown(cell, mark=mark) for cell, mark in zip(row.cells, row.marks, strict=True)],
        }
        for row in tables.main(condition)
    ]
    return {"head": cells.table(condition, headline(condition))["head"], "rows": rows}


def _updates(condition: Condition) -> dict[str, Any] | None:
    """Return what edits leave of the updates, and on how many samples that was measured; None where it was not."""
    table = cells.table(condition, [series for series in update_columns() if series.kind == "update"])
    if not any("absent" not in cell for row in table["rows"] for cell in row["cells"]):
        return None
    counts = sorted({found.samples for run in condition.runs for found in run.updates if found and found.samples})
    return table | {"samples": " or ".join(map(str, counts))}


def _noise(condition: Condition) -> dict[str, Any]:
    columns = headline(condition)
    rows = [
        {
            "label": floor.label,
            "repeats": floor.repeats,
            "cells": [tables.shown_spread(floor.spread(series)) for series in columns],
        }
        for floor in condition.noise
    ]
    heads = [cells.head(series) | {"better": ""} for series in columns]
    return {"head": heads, "rows": rows, "about": tables.about_noise(condition)}


def _settings_of(condition: Condition, method: str) -> dict[str, Any]:
    """Return a method's settings, each with its differences to the default, and which figure has its keep rate."""
    default, *others = condition.settings[method]
    changed = [key for key in default.config if any(key in group.changed(default) for group in others)]
    columns = [*headline(condition), *update_columns()]
    labels = [tables.setting({key: default.config[key] for key in changed})]
    labels += [tables.setting(group.changed(default)) for group in others]
    changes: list[list[dict[str, Any]]] = [[], *cells.differences(condition, others, default)]
    rows = [
        {
            "group": group.label,
            "label": label,
            "seeds": group.seeds,
            "cells": [cells.shown(group.final(series), series) for series in columns],
            "changes": [*change, *[{}] * (len(columns) - len(change))],
        }
        for label, group, change in zip(labels, (default, *others), changes, strict=True)
    ]
    return {
        "method": method,
        "head": [cells.head(series) for series in columns],
        "rows": rows,
        "figure": keep_rate_name(method),
    }


def _differences(condition: Condition) -> dict[str, list[dict[str, Any]]]:
    """Return each method minus each of the methods that all are compared with."""
    found = {}
    for reference in condition.references:
        groups = [group for group in condition.main if group is not reference]
        rows = zip(groups, cells.differences(condition, groups, reference), strict=True)
        found[reference.label] = [cells.row_of(group) | {"cells": row} for group, row in rows]
    return found


def _plasticity(condition: Condition) -> dict[str, Any] | None:
    """Return the swept methods at equal accuracy on tasks just learned; None where nothing was swept."""
    found = match(condition)
    if not found:
        return None
    rows = [
        {
            "label": row.sweep.label,
            "strengths": len(row.sweep.groups),
            "seeds": len(row.sweep.seeds),
            "cells": [tables.shown(cell) for cell in row.cells],
            "changes": [
                {} if row.sweep is found.reference else tables.shown(cell, signed=True, differs=differs)
                for cell, differs in zip(row.differences, row.differs, strict=True)
            ],
        }
        for row in found.rows
    ]
    return {
        "level": tables.number(found.level),
        "head": [cells.head(series) for series in found.columns],
        "reference": found.reference.label,
        "rows": rows,
    }


def _matrix(condition: Condition, group: Group) -> dict[str, Any]:
    """Return a method's accuracy of each task after each stage, as the page shades it."""
    short, curriculum = short_names(condition.tasks), group.runs[0].curriculum
    rows = []
    for stage in range(group.last + 1):
        trained = curriculum[stage - 1] if stage else []
        found = []
        for task in condition.tasks:
            cell = group.cell(stage, Series(task, "task", "", "accuracy"))
            form = group.cell(stage, Series(task, "task", "", "in_form"))
            known = isinstance(cell, Cell)
            found.append(
                (tables.shown(cell) if known else {"text": tables.absent(str(cell)), "about": cell, "absent": True})
                | {"shade": f"{min(max(cell.value, 0), 100) / 100:.2f}" if isinstance(cell, Cell) else "0"}
                | {"trained": task in trained, "form": tables.number(form.value, 0) if isinstance(form, Cell) else ""}
            )
        name = short[trained[0]] if len(trained) == 1 else f"{len(trained)} tasks" if trained else "aligned"
        rows.append({"stage": stage, "label": f"{stage} {name}", "cells": found})
    return cells.row_of(group) | {
        "tasks": [(task, short[task]) for task in condition.tasks],
        "rows": rows,
        "open": group in condition.references,
    }


def _setting(condition: Condition) -> list[tuple[str, str]]:
    """Return what the runs of a part have in common, and where they differ in versions or hardware, each value."""
    manifests = [run.manifest for run in condition.begun]
    first = manifests[0]
    lines = [
        ("Suite", first.suite_title),
        ("Tasks, in training order", ", ".join(condition.tasks)),
        ("Safety sets", ", ".join(condition.safety_sets) or "none"),
        ("Benign sets", ", ".join(condition.benign_sets) or "none"),
        ("Judges", ", ".join(condition.judges) or "none"),
        ("Harmful training data", f"{100 * first.harmful_ratio:g}% of each task's samples"),
    ]
    lines += [("Commit", commit) for commit in dict.fromkeys(manifest.code for manifest in manifests)]
    known = {
        "Training": [manifest.training for manifest in manifests],
        "Versions": [manifest.versions for manifest in manifests],
        "Hardware": [_known(manifest.hardware) for manifest in manifests],
        "Numerics": [_known(manifest.numerics) for manifest in manifests],
    }
    for heading, values in known.items():
        lines += [(heading, value) for value in dict.fromkeys(map(_settings, values)) if value]
    return lines


def _known(part: Hardware | Numerics) -> dict[str, Any]:
    """Return what a manifest says of a machine, lists and tables in one text each."""
    found: dict[str, Any] = {}
    for key, value in part.said().items():
        if isinstance(value, dict):
            found |= value
        elif value is not None:
            found[key.replace("_", " ")] = " ".join(value) if isinstance(value, list) else value
    return found


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value if isinstance(value, str | int | float) else json.dumps(value)}" for key, value in values.items()
    )


def _judged(condition: Condition, judge: str) -> dict[str, Any]:
    columns = judged_columns(condition, judge)
    return cells.table(condition, columns) | {"calibration": trust.calibration_row(condition, columns)}


def _verdicts(condition: Condition, name: str, show_unsafe: bool) -> dict[str, Any]:
    """Return what the responses to a set are, judge by judge, and where it has harm categories, ASR by category."""
    shares = {judge: verdict_columns(condition, name, judge) for judge in condition.judges}
    table = cells.table(condition, [series for listed in shares.values() for series in listed])
    for head in table["head"]:
        head["set"] = ""
    by_category = name in condition.categories and condition.judges
    return table | {
        "judges": {judge: len(listed) for judge, listed in shares.items()},
        "categories": trust.category_table(condition, name, next(iter(shares)), show_unsafe) if by_category else None,
    }


def _costs(condition: Condition) -> dict[str, Any]:
    by_label = {row["method"]: row for row in tables.costs(condition)}
    rows = [by_label[group.label] for group in condition.main]
    steps = [key for key in dict.fromkeys(key for row in rows for key in row) if key.startswith("seconds_")]
    sums = {"seconds_total", "seconds_shared"}
    steps = sorted(set(steps) - sums, key=lambda step: (-max(row.get(step, 0) for row in rows), steps.index(step)))
    named = [(step, step.removeprefix("seconds_").replace("_", " ")) for step in steps]
    named += [("seconds_shared", "of these shared")] if any("seconds_shared" in row for row in rows) else []
    sizes = {name: words for name, words in tables.COSTS.items() if not name.startswith("seconds")}
    listed = [
        cells.row_of(group)
        | {"runs": row["runs"], "missing": row["missing"], "total": row.get("seconds_total")}
        | {"steps": [_step(row, step) for step, _ in named]}
        | {"sizes": [(row.get(name, ""), tables.amount(name, row.get(name))) for name in sizes]}
        for group, row in zip(condition.main, rows, strict=True)
    ]
    return {"rows": listed, "steps": [words for _, words in named], "sizes": list(sizes.values())}


def _step(row: tables.Row, step: str) -> dict[str, Any] | None:
    if step not in row:
        return None
    total = row["seconds_total"]
    return {"seconds": row[step], "share": f"{100 * row[step] / total:.0f}%" if total else ""}
