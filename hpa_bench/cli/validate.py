"""`hpa-bench validate`: check a suite and all its data, training nothing."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.data.tasks import TaskLoader
from hpa_bench.data.validation import SetReport, inspect_sets, leaks_of
from hpa_bench.spec import RunOptions, make_spec

SHOWN = 5
"""Bad rows named for each set; the others are counted."""


def validate(
    suite: options.Suite = "tiny",
    settings: options.Settings = [],  # noqa: B006
    data_root: options.DataRoot = None,
    alignment: Annotated[
        list[str], typer.Option(help="A further task that the model was aligned on, for leakage. Several times: each.")
    ] = [],  # noqa: B006
    deep: Annotated[bool, typer.Option(help="Decode every image: only this finds all broken ones.")] = False,
    leakage: Annotated[bool, typer.Option(help="Look for test samples in training and alignment data.")] = True,
) -> None:
    """Open every data set that a suite names, check every row and image, and say what is missing and where to get it.

    Exit status 1 where a run could not use the data. Leakage is reported, and left to your judgement.
    """

    options = RunOptions(suite, "seqft", settings=settings, data_root=data_root)
    resolved = make_spec(options, model=False).suite
    if resolved.model is not None:
        resolved.model_path()
    split = resolved.evaluation.split
    loader = TaskLoader(resolved.task_folders(), split, resolved.task_metadata())
    reports = inspect_sets(resolved.sets(alignment), loader, split, deep)
    console = make_console()
    console.print(_table(f"suite {resolved.name}", reports))
    errors: dict[str, list[str]] = {}
    for report in reports:
        for reason in filter(None, (report.error, report.scoring)):
            errors.setdefault(reason, []).append(report.name)
    for reason, names in errors.items():
        _say(console, f"{', '.join(names)}: {reason}", "red")
    for report in reports:
        _name_rows(console, report)
    if leakage:
        leaks = leaks_of(reports)
        for leak in leaks:
            first, known = leak.pairs[0]
            _say(
                console,
                f"leakage: test samples of {leak.test} that stand in the training data of {leak.source}:"
                f" {len(leak.pairs)} (such as {first!r}, there {known!r}).",
                "yellow",
            )
        unread = [report.name for report in reports if report.error]
        if len(unread) == len(reports):
            _say(console, "Leakage was not looked for: no set could be read.")
        elif not leaks:
            read = " of what could be read" if unread else ""
            _say(console, f"No test sample{read} stands in training, calibration or alignment data.")
    if resolved.model is None:
        _say(console, f"The suite names no model, so a run needs --set model=PATH: {resolved.model_note}.")
    if not all(report.good for report in reports):
        raise typer.Exit(1)
    _say(console, "Everything that the suite names is there.")


def _table(title: str, reports: list[SetReport]) -> object:

    table = Table("set", "kind", "found", "training", "test", "images", "missing images", "bad rows", title=title)
    for report in reports:
        counts = {"training" if split == "training" else "test": len(s) for split, s in report.samples.items()}
        images = sum(len(sample.images) for samples in report.samples.values() for sample in samples)
        cells = [str(counts.get(split, "-")) for split in ("training", "test")]
        cells += [str(images), str(len(report.missing)), str(len(report.bad))] if not report.error else ["-"] * 3
        table.add_row(report.name, report.kind, "no" if report.error else "yes", *cells)
    return table


def _name_rows(console: Console, report: SetReport) -> None:
    for what, rows in (("missing images", report.missing), ("bad rows", report.bad)):
        for sentence in rows[:SHOWN]:
            _say(console, f"{report.name}: {sentence}", "red")
        if len(rows) > SHOWN:
            _say(console, f"{report.name}: {len(rows) - SHOWN} more {what}.", "red")
    if (report.missing or report.bad) and report.where_to_get:
        _say(console, f"{report.name}: get what is missing from {report.where_to_get}.", "red")


def _say(console: Console, sentence: str, style: str | None = None) -> None:
    console.print(sentence, style=style, highlight=False, markup=False)
