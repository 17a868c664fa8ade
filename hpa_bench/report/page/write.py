"""Writing a report: the tables, the figures, and the page in one file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hpa_bench.errors import UserError
from hpa_bench.files import atomic
from hpa_bench.machine.disk import GIVE_AGAIN, refusals_told
from hpa_bench.metrics import METRICS
from hpa_bench.redact import clean
from hpa_bench.report import markdown, tables, trust
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition, conditions
from hpa_bench.report.definitions import PAPER, PAPER_HEADER
from hpa_bench.report.examples import examples
from hpa_bench.report.kinds import KINDS, kind_of
from hpa_bench.report.overlap import layer_rows
from hpa_bench.report.page import cells
from hpa_bench.report.page.drawing import TRIALS, beside, figures_of, trials
from hpa_bench.report.page.parts import part_of
from hpa_bench.report.plasticity import plasticity_rows
from hpa_bench.report.robustness import Checkpoints, KernelSets, checkpoints, kernel_rows, kernel_sets
from hpa_bench.report.samples import samples_of, script_json
from hpa_bench.report.tuned import against_rows, section, side_rows, trial_rows, tuned_files
from hpa_bench.results.runs import Run
from hpa_bench.results.tuned import Tuned

SCRIPTS = ("charts.js", "samples.js", "report.js")
"""In the order in which they run."""
STYLES = ("report.css", "samples.css")
BLANKS = " \t"


def write_report(
    runs: Sequence[Run] | Sequence[Condition],
    out: Path,
    title: str = "hpa-bench report",
    *,
    show_unsafe: bool = False,
    tuned: Tuned | None = None,
) -> Path:
    """Write report.html, tables/*.csv and *.md, and figures/*.png and *.svg.

    Runs of different suites, task orders, harmful ratios or training recipes stand apart, each in its own part.

    Args:
        runs: finished or not; what a run did not reach is shown as "missing: reason". Or the conditions that they
            were sorted into.
        out: the folder to write into; made if need be.
        title: the page's heading.
        show_unsafe: whether examples show harmful requests, responses to them and the images of safety sets; otherwise
            the page holds none of them, their samples and harm categories are numbered, in the tables too, which
            never hold texts.
        tuned: as of `conditions`.

    Returns:
        The path of report.html.

    Raises:
        UserError: no runs, two runs of one method and seed, or runs tested on different samples; or tuned settings of
            other runs; or the folder cannot be written.
    """
    if not runs:
        raise UserError("No runs to report.")
    with refusals_told(out, GIVE_AGAIN):
        return _write(runs, out, title, show_unsafe, tuned)


def _write(
    runs: Sequence[Run] | Sequence[Condition], out: Path, title: str, show_unsafe: bool, tuned: Tuned | None
) -> Path:
    found = conditions(runs, tuned)
    sets = kernel_sets(found)
    prefixes = _prefixes(len(found))
    tunings = dict(zip(_prefixes(len(tuned_files(found))), tuned_files(found), strict=True))
    if tunings:
        _write_tuned(out / "tables", found)
    anchors = [f"{prefix}part" for prefix in prefixes]
    planned = [figures_of(condition, prefix) for condition, prefix in zip(found, prefixes, strict=True)]
    drawn = [trials(one, prefix) for prefix, one in tunings.items()]
    drawn += [each for listed in planned for each in listed]
    tasks: dict[str, Callable[[], Any]] = {"samples": partial(samples_of, found, out, show_unsafe, anchors)}
    tasks |= {one.name: partial(one.save, out / "figures") for one in drawn}
    tasks |= {anchor: partial(examples, each, show_unsafe) for anchor, each in zip(anchors, found, strict=True)}
    with beside(tasks) as wait:
        _write_tables(out / "tables", found, prefixes, sets, show_unsafe)
        parts = [part_of(*each, show_unsafe) for each in zip(found, anchors, strict=True)]
        done = wait()
    for part, prefix, listed in zip(parts, prefixes, planned, strict=True):
        named = {one.name.removeprefix(prefix): done[one.name] for one in listed}
        part |= {"figures": defaultdict(str, named), "examples": done[part["anchor"]]}
    samples = done["samples"]
    scripts = [_asset(name) for name in SCRIPTS]
    page = _template().generate(
        title=title,
        parts=parts,
        show_unsafe=show_unsafe,
        across=_across(found) if len(found) > 1 else None,
        kernel_sets=[_kernel_sets(each) for each in sets],
        checkpoints=[_checkpoints(one) for one in checkpoints(found)],
        tuned=[
            section(found, one) | {"prefix": prefix, "figure": done[f"{prefix}{TRIALS}"]}
            for prefix, one in tunings.items()
        ],
        samples=samples,
        marks=tables.MARKS,
        versions=tables.VERSIONS,
        metrics=METRICS,
        kinds=_kinds(found),
        paper_header=PAPER_HEADER,
        paper=[["–" if value is None else value for value in row] for row in PAPER],
        styles=[_asset(name) for name in STYLES],
        scripts=scripts,
        policy=policy(scripts, bool(samples and samples["beside"])),
    )
    path = out / "report.html"
    with atomic(path) as written, written.open("w", encoding="utf-8") as file:
        file.writelines(_lines(page))
    return path


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Return the lines that pieces make, without blanks at their ends; a page is never in memory as a whole."""
    left = ""
    for piece in pieces:
        *lines, left = "".join((left, piece)).split("\n")  # Not by +: what is marked as safe would escape the rest.
        yield from (f"{line.rstrip(BLANKS)}\n" for line in lines)
    yield left.rstrip(BLANKS)


def policy(scripts: Sequence[str], beside: bool = False) -> str:
    """Return a Content-Security-Policy under which these inline scripts run, no other, and nothing is fetched.

    Args:
        scripts: their texts, as they stand between the tags.
        beside: whether files that lie beside the page may run as well.
    """
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join([*(f"'sha256-{digest}'" for digest in digests), *(["'self'", "file:"] if beside else [])])
    parts = ["default-src 'none'", "img-src data: blob:", "style-src 'unsafe-inline'", f"script-src {allowed}"]
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def _asset(name: str) -> str:
    text = (files("hpa_bench.report.page") / name).read_text(encoding="utf-8")
    # What is written has no blanks at line ends, and the policy's digests are of what is written.
    return "".join(_lines([text]))


def _kinds(found: Sequence[Condition]) -> dict[str, str]:
    there = {kind_of(group) for condition in found for group in condition.main}
    return {kind: words for kind, words in KINDS.items() if kind in there}


def _template() -> Any:
    cleaned = cache(clean)  # A few texts, such as names, fill most places.
    # Autoescape everything: responses and prompts are whatever a model or a data set wrote.
    environment = Environment(
        loader=PackageLoader("hpa_bench.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: cleaned(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = script_json
    return environment.get_template("page.html.j2")


def _write_tables(
    folder: Path,
    found: Sequence[Condition],
    prefixes: Sequence[str],
    sets: Sequence[KernelSets],
    show_unsafe: bool,
) -> None:
    """Write every table as CSV; conditions stand below one another, never averaged."""
    listed: dict[str, Callable[[Condition], list[tables.Row]]] = {
        "results": tables.results,
        "seeds": tables.seeds,
        "noise": tables.noise,
        "stages": tables.stages,
        "differences": tables.differences,
        "plasticity": plasticity_rows,
        "overlap": layer_rows,
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
    if rows := kernel_rows(sets):
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


def _prefixes(count: int) -> list[str]:
    """Return how names begin: of the first not at all, so that links to it hold when others are added."""
    return ["", *(f"{index}-" for index in range(2, count + 1))][:count]


def _write_tuned(folder: Path, found: Sequence[Condition]) -> None:
    tables.write_csv(folder / "trials.csv", [row for tuned in tuned_files(found) for row in trial_rows(tuned)])
    tables.write_csv(folder / "tuned.csv", [row for condition in found for row in side_rows(condition)])
    if rows := [row for condition in found for row in against_rows(condition)]:
        tables.write_csv(folder / "tuned_differences.csv", rows)
    (folder / "tuned.md").write_text(clean(markdown.tuned_table(found)), encoding="utf-8")


def _across(found: Sequence[Condition]) -> dict[str, Any]:
    by_label = {group.label: cells.row_of(group) for condition in found for group in condition.main}
    rows = [
        by_label[row.label] | {"cells": [tables.shown(cell, mark=mark, rank=rank) for cell, rank, mark in row.cells]}
        for row in tables.across(found)
    ]
    heads = [(part.short, [cells.head(series) for series in plane(part)]) for part in found]
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
        "head": [cells.head(series) for series in found.columns],
        "rows": [(label, [tables.shown(cell) for cells in row for cell in cells]) for label, row in found.rows],
        "agreement": [
            (tables.title(series), tables.number(one[0], 2), one[1])
            for series, one in zip(found.columns, found.agreement, strict=True)
            if one
        ],
    }
