"""The report: one self-contained HTML page beside its tables and figures, made from run directories alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hpa_bench.errors import UserError
from hpa_bench.files import atomic
from hpa_bench.machine.disk import GIVE_AGAIN, refusals_told
from hpa_bench.metrics import METRICS
from hpa_bench.names import short_names
from hpa_bench.redact import clean
from hpa_bench.report import figures, markdown, tables, trust
from hpa_bench.report.columns import (
    beside_accuracy,
    continual_columns,
    form_columns,
    headline,
    plane,
    safety_columns,
    update_columns,
    verdict_columns,
)
from hpa_bench.report.conditions import Condition, conditions
from hpa_bench.report.definitions import PAPER, PAPER_HEADER
from hpa_bench.report.examples import examples
from hpa_bench.report.groups import Group
from hpa_bench.report.overlap import overlap_figure, overlap_table
from hpa_bench.report.plasticity import match, plasticity_figure, plasticity_rows
from hpa_bench.report.ranking import shown_groups
from hpa_bench.report.robustness import Checkpoints, KernelSets, checkpoints, kernel_rows, kernel_sets
from hpa_bench.report.tuned import check_suite, section, side_rows, trial_rows
from hpa_bench.results.manifest import Hardware, Numerics
from hpa_bench.results.measures import ALL, Cell, Series
from hpa_bench.results.runs import Run
from hpa_bench.results.tuned import Tuned


def write_report(
    runs: Sequence[Run],
    out: Path,
    title: str = "hpa-bench report",
    *,
    show_unsafe: bool = False,
    tuned: Tuned | None = None,
) -> Path:
    """Write report.html, tables/*.csv and *.md, and figures/*.png and *.svg.

    Runs of different suites, task orders, harmful ratios or training recipes stand apart, each in its own part.

    Args:
        runs: finished or not; what a run did not reach is shown as "missing: reason".
        out: the folder to write into; made if need be.
        title: the page's heading.
        show_unsafe: whether examples show harmful requests, responses to them and the images of safety sets; otherwise
            the page holds none of them, their samples and harm categories are numbered, in the tables too, which
            never hold texts.
        tuned: what `hpa-bench tune` left; methods with these settings stand beside their defaults.

    Returns:
        The path of report.html.

    Raises:
        UserError: no runs, two runs of one method and seed, or runs tested on different samples; or tuned settings of
            another suite; or the folder cannot be written.
    """
    if not runs:
        raise UserError("No runs to report.")
    with refusals_told(out, GIVE_AGAIN):
        return _write(runs, out, title, show_unsafe, tuned)


def _write(runs: Sequence[Run], out: Path, title: str, show_unsafe: bool, tuned: Tuned | None) -> Path:
    found = conditions(runs)
    if tuned is not None:
        check_suite(tuned, found)
        _write_tuned(out / "tables", found, tuned)
    # The first condition's files have plain names, so that links to them hold when others are added.
    prefixes = ["", *(f"{index}-" for index in range(2, len(found) + 1))]
    _write_tables(out / "tables", found, prefixes, show_unsafe)
    page = _template().render(
        title=title,
        parts=[_part(part, out / "figures", prefix, show_unsafe) for part, prefix in zip(found, prefixes, strict=True)],
        show_unsafe=show_unsafe,
        across=_across(found) if len(found) > 1 else None,
        kernel_sets=[_kernel_sets(sets) for sets in kernel_sets(found)],
        checkpoints=[_checkpoints(one) for one in checkpoints(found)],
        tuned=section(found, tuned, out / "figures") if tuned is not None else None,
        marks=tables.MARKS,
        versions=tables.VERSIONS,
        metrics=METRICS,
        paper_header=PAPER_HEADER,
        paper=[["–" if value is None else value for value in row] for row in PAPER],
    )
    path = out / "report.html"
    with atomic(path) as partial:
        partial.write_text(re.sub(r"[ \t]+$", "", page, flags=re.MULTILINE), encoding="utf-8")
    return path


def _template() -> Any:

    # Autoescape everything: responses and prompts are whatever a model or a data set wrote.
    environment = Environment(
        loader=PackageLoader("hpa_bench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2")


def _write_tables(folder: Path, found: Sequence[Condition], prefixes: Sequence[str], show_unsafe: bool) -> None:
    """Write every table as CSV; conditions stand below one another, never averaged."""
    listed: dict[str, Callable[[Condition], list[tables.Row]]] = {
        "results": tables.results,
        "seeds": tables.seeds,
        "noise": tables.noise,
        "stages": tables.stages,
        "differences": tables.differences,
        "plasticity": plasticity_rows,
        "costs": tables.costs,
        "runs": tables.runs,
        "calibration": trust.calibration,
        "agreement": trust.agreement,
        "categories": lambda condition: trust.categories(condition, show_unsafe),
    }
    for name, table in listed.items():
        if rows := [row for condition in found for row in table(condition)]:
            tables.write_csv(folder / f"{name}.csv", rows)
    if len(found) > 1:
        tables.write_csv(folder / "conditions.csv", tables.conditions(found))
    if rows := kernel_rows(found):
        tables.write_csv(folder / "kernel_sets.csv", rows)
    paper = [dict(zip(PAPER_HEADER, row, strict=True)) for row in PAPER]
    tables.write_csv(folder / "paper_llava_7b_not_comparable.csv", paper)
    pages = {f"{prefix}main": markdown.main_table(part) for part, prefix in zip(found, prefixes, strict=True)}
    pages |= {
        f"{prefix}noise": markdown.noise_table(part) for part, prefix in zip(found, prefixes, strict=True) if part.noise
    }
    if len(found) > 1:
        pages["conditions"] = markdown.across_table(found)
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(clean(text), encoding="utf-8")


def _write_tuned(folder: Path, found: Sequence[Condition], tuned: Tuned) -> None:
    tables.write_csv(folder / "trials.csv", trial_rows(tuned))
    tables.write_csv(folder / "tuned.csv", [row for condition in found for row in side_rows(condition, tuned)])
    (folder / "tuned.md").write_text(clean(markdown.tuned_table(found, tuned)), encoding="utf-8")


def _across(found: Sequence[Condition]) -> dict[str, Any]:
    rows = [
        (row.label, [tables.shown(cell, mark=mark, rank=rank) for cell, rank, mark in row.cells])
        for row in tables.across(found)
    ]
    heads = [(part.short, [_head(series) for series in plane(part)]) for part in found]
    return {"rows": rows, "heads": heads}


def _kernel_sets(sets: KernelSets) -> dict[str, Any]:
    rows = [
        (
            one.label,
            tables.title(one.series),
            [
                tables.shown(cell, signed=True, differs=bool(sign))
                for cell, sign in zip(one.cells, one.signs, strict=True)
            ],
        )
        for one in sets.conclusions
        if not one.agrees
    ]
    return {"titles": [sets.first.title, sets.second.short], "count": len(sets.conclusions), "rows": rows}


def _checkpoints(found: Checkpoints) -> dict[str, Any]:
    return {
        "names": found.names,
        "head": [_head(series) for series in found.columns],
        "rows": [(label, [tables.shown(cell) for cells in row for cell in cells]) for label, row in found.rows],
        "agreement": [
            (tables.title(series), tables.number(one[0], 2), one[1])
            for series, one in zip(found.columns, found.agreement, strict=True)
            if one
        ],
    }


def _part(condition: Condition, folder: Path, prefix: str, show_unsafe: bool) -> dict[str, Any]:
    runs = tables.runs(condition)
    return {
        "title": condition.title,
        "anchor": f"{prefix}part",
        "condition": condition,
        "setting": _setting(condition),
        "runs": runs,
        "unfinished": [run for run in runs if run["missing"]],
        "harmful": _harmful(condition),
        "main": _main(condition),
        "calibrated": _calibrated(condition),
        "noise": _noise(condition),
        "settings": [_settings_of(condition, method, folder, prefix) for method in condition.settings],
        "forms": bool(form_columns(condition)),
        "continual": _table(condition, [*continual_columns(), *beside_accuracy(condition)]),
        "safety": {judge: _judged(condition, judge) for judge in condition.judges},
        "sets": {name: _verdicts(condition, name, show_unsafe) for name in condition.safety_sets},
        "agreement": trust.agreement_tables(condition),
        "reference": condition.reference.label,
        "intervals": tables.intervals(condition),
        "matrix": f" {said}" if (said := tables.about_matrix(condition)) else "",
        "differences": {
            reference.label: _differences(
                condition, [group for group in condition.main if group is not reference], reference
            )
            for reference in condition.references
        },
        "shown": len(shown_groups(condition)),
        "hidden": sum(group.last > 0 for group in condition.main) - len(shown_groups(condition)),
        "matrices": [_matrix(condition, group) for group in condition.main if any(run.stages for run in group.runs)],
        "costs": _costs(condition),
        "examples": examples(condition, show_unsafe),
        "plasticity": _plasticity(condition, folder, prefix),
        "overlap": overlap_table(condition),
        "figures": _figures(condition, folder, prefix),
    }


def _harmful(condition: Condition) -> str:
    """Return how many training samples harmful pairs replace; empty where none."""
    if not condition.harmful_ratio:
        return ""
    poisoned = [run.manifest.poisoned for run in condition.runs]
    replaced = max(sum(map(len, tasks.values())) for tasks in poisoned)
    count = f" ({replaced} over all tasks)" if replaced else ""
    return f"{100 * condition.harmful_ratio:g}% of each task’s training samples{count}"


def _calibrated(condition: Condition) -> str:
    """Return on how many calibration samples a stage's KL was measured; empty where it was not."""
    counts = sorted({found.samples for run in condition.runs for found in run.updates if found and found.samples})
    return f" ({' or '.join(map(str, counts))} calibration samples a stage)" if counts else ""


def _main(condition: Condition) -> dict[str, Any]:
    rows = [
        {
            "label": row.group.label,
            "seeds": row.group.seeds,
            "missing": row.missing,
            "cells": [tables.shown(cell, mark=mark) for cell, mark in zip(row.cells, row.marks, strict=True)],
            "left": [_shown(cell, series) for cell, series in zip(row.left, update_columns(), strict=True)],
            "costs": row.costs,
        }
        for row in tables.main(condition)
    ]
    heads = _table(condition, headline(condition))["head"]
    left = [_head(series) for series in update_columns()]
    return {"head": heads, "left": left, "rows": rows, "costs": list(tables.COSTS.values())}


def _shown(cell: tables.Found, series: Series) -> dict[str, Any]:
    return tables.shown(cell, digits=METRICS[series.metric].digits)


def _noise(condition: Condition) -> dict[str, Any]:
    columns = headline(condition)
    rows = [
        (floor.label, floor.repeats, [tables.shown_spread(floor.spread(series)) for series in columns])
        for floor in condition.noise
    ]
    return {
        "head": [_head(series) | {"better": ""} for series in columns],
        "rows": rows,
        "about": tables.about_noise(condition),
    }


def _settings_of(condition: Condition, method: str, folder: Path, prefix: str) -> dict[str, Any]:
    """Return a method's settings, each with its differences to the default, and the sweep over its keep rate."""
    default, *others = condition.settings[method]
    changed = [key for key in default.config if any(key in group.changed(default) for group in others)]
    columns = [*headline(condition), *update_columns()]
    rows: list[tuple[str, Group, list[dict[str, Any]]]] = [
        (tables.setting({key: default.config[key] for key in changed}), default, [])
    ]
    rows += [
        (tables.setting(group.changed(default)), group, cells)
        for group, (_, cells) in zip(others, _differences(condition, others, default), strict=True)
    ]
    figure = figures.keep_rate([default, *others], condition)
    return {
        "method": method,
        "rows": [
            (label, group.seeds, [_shown(group.final(series), series) for series in columns], differences)
            for label, group, differences in rows
        ],
        "figure": figures.save(figure, folder, f"{prefix}keep-rate-{_slug(method)}") if figure else "",
    }


def _differences(condition: Condition, groups: Sequence[Group], other: Group) -> list[tuple[str, list[dict[str, Any]]]]:
    rows = tables.contrasts(condition, groups, other)
    return [
        (group.label, [tables.shown(one.cell, signed=True, differs=one.differs) for one in row])
        for group, row in zip(groups, rows, strict=True)
    ]


def _plasticity(condition: Condition, folder: Path, prefix: str) -> dict[str, Any] | None:
    """Return the swept methods at equal accuracy on tasks just learned; None where nothing was swept."""
    found = match(condition)
    if not found:
        return None
    rows = [
        (
            row.sweep.label,
            len(row.sweep.groups),
            len(row.sweep.seeds),
            [tables.shown(cell) for cell in row.cells],
            [
                {} if row.sweep is found.reference else tables.shown(cell, signed=True, differs=differs)
                for cell, differs in zip(row.differences, row.differs, strict=True)
            ],
        )
        for row in found.rows
    ]
    return {
        "level": tables.number(found.level),
        "head": [_head(series) for series in found.columns],
        "reference": found.reference.label,
        "rows": rows,
        "figure": figures.save(plasticity_figure(found), folder, f"{prefix}matched-plasticity"),
    }


def _matrix(condition: Condition, group: Group) -> dict[str, Any]:
    """Return a method's accuracy of each task after each stage, as the page shades it."""
    short, curriculum = short_names(condition.tasks), group.runs[0].curriculum
    rows = []
    for stage in range(group.last + 1):
        trained = curriculum[stage - 1] if stage else []
        cells = []
        for task in condition.tasks:
            cell = group.cell(stage, Series(task, "task", "", "accuracy"))
            shade = cell.value / 100 if isinstance(cell, Cell) else 0.0
            text = tables.number(cell.value) if isinstance(cell, Cell) else tables.absent(cell)
            form = group.cell(stage, Series(task, "task", "", "in_form"))
            cells.append(
                {"text": text, "shade": f"{0.85 * shade:.2f}", "dark": shade > 0.65, "trained": task in trained}
                | {"form": tables.number(form.value, 0) if isinstance(form, Cell) else ""}
            )
        name = short[trained[0]] if len(trained) == 1 else f"{len(trained)} tasks" if trained else "aligned"
        rows.append((f"{stage} {name}", cells))
    columns = ", ".join(
        f"{tables.title(series)} {tables.shown(group.final(series))['text'].split(':')[0]}"
        for series in headline(condition)[:2]
    )
    shown = group in condition.references
    return {
        "label": group.label,
        "about": columns,
        "tasks": [short[task] for task in condition.tasks],
        "rows": rows,
        "open": shown,
    }


def _setting(condition: Condition) -> list[tuple[str, str]]:
    """Return what the runs of a part have in common, and where they differ in versions or hardware, each value."""
    manifests = [run.manifest for run in condition.all_runs]
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


def _table(condition: Condition, columns: Sequence[Series]) -> dict[str, Any]:
    cells = [[group.final(series) for series in columns] for group in condition.main]
    sizes = [{cell.n for row in cells if isinstance(cell := row[index], Cell)} for index in range(len(columns))]
    short = short_names([*condition.safety_sets, *condition.benign_sets])
    head = [
        _head(series)
        | {
            "set": "" if series.set == ALL else short.get(series.set, series.set),
            "n": f"n = {next(iter(size))}" if size else "",
        }
        for series, size in zip(columns, sizes, strict=True)
    ]
    rows = [
        (group.label, group.seeds, [tables.shown(cell) for cell in row])
        for group, row in zip(condition.main, cells, strict=True)
    ]
    return {"head": head, "rows": rows}


def _head(series: Series) -> dict[str, str]:
    metric = METRICS[series.metric]
    return {"title": metric.title, "better": {"higher": "↑", "lower": "↓", "": ""}[metric.better], "set": "", "n": ""}


def _judged(condition: Condition, judge: str) -> dict[str, Any]:
    columns = safety_columns(condition, judge)
    return _table(condition, columns) | {"calibration": trust.calibration_row(condition, columns)}


def _verdicts(condition: Condition, name: str, show_unsafe: bool) -> dict[str, Any]:
    """Return what the responses to a set are, judge by judge, and where it has harm categories, ASR by category."""
    shares = {
        judge: [Series(name, "safety", judge, "asr"), *verdict_columns(condition, name, judge)]
        for judge in condition.judges
    }
    columns = [series for listed in shares.values() for series in listed]
    table = _table(condition, columns)
    for series, head in zip(columns, table["head"], strict=True):
        head["set"] = "attack success" if series.metric == "asr" else ""
    by_category = name in condition.categories and condition.judges
    return table | {
        "judges": {judge: len(listed) for judge, listed in shares.items()},
        "categories": trust.category_table(condition, name, next(iter(shares)), show_unsafe) if by_category else None,
    }


def _costs(condition: Condition) -> dict[str, Any]:
    labels = {group.label for group in condition.main}
    rows = [row for row in tables.costs(condition) if row["method"] in labels]
    steps = [key for key in dict.fromkeys(key for row in rows for key in row) if key.startswith("seconds_")]
    sums = {"seconds_total", "seconds_shared"}
    steps = sorted(set(steps) - sums, key=lambda step: (-max(row.get(step, 0) for row in rows), steps.index(step)))
    named = [(step, step.removeprefix("seconds_").replace("_", " ")) for step in steps]
    shared = [("seconds_shared", "of these shared")] if any("seconds_shared" in row for row in rows) else []
    return {"rows": rows, "steps": named + shared}


def _figures(condition: Condition, folder: Path, prefix: str) -> dict[str, str]:
    """Write a part's figures and return those that stand in the page, where accuracy matrices are tables instead."""
    for group in condition.references:
        if any(run.stages for run in group.runs):
            name = f"{prefix}accuracy-matrix-{_slug(group.label)}"
            figures.save(figures.accuracy_matrix(group, condition), folder, name)
    drawn = figures.page_figures(condition) | {"column-overlap": overlap_figure(condition)}
    return {name: figures.save(figure, folder, f"{prefix}{name}") if figure else "" for name, figure in drawn.items()}


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
