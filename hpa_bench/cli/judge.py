"""`hpa-bench judge`: further judges on the stored responses of finished stages, with nothing generated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.judges.base import Judge, make_judge
from hpa_bench.plugins import load_plugins
from hpa_bench.results.absence import absence
from hpa_bench.results.measures import Key, Series
from hpa_bench.results.run_folder import find_runs
from hpa_bench.results.runs import Run
from hpa_bench.runner.judging import judge_run


def judge(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold runs.")],
    judges: Annotated[
        list[str],
        typer.Option("--judge", help="A judge, options after colons: openai:model=gpt-4o. Several times: each one."),
    ],
    again: Annotated[bool, typer.Option("--again", help="Judge also what these judges have judged before.")] = False,
    plugin: options.Plugins = [],  # noqa: B006
) -> None:
    """Judge stored responses by further judges, or finish what a judge could not; no model is tuned, none generates."""

    load_plugins(plugin)
    chosen = [make_judge(text) for text in judges]
    folders = find_runs(runs)

    console = make_console()
    failures = []
    try:
        with console.status("") as status:
            for folder in folders:
                failures += judge_run(folder, chosen, again=again, on_progress=lambda text: status.update(Text(text)))
    finally:
        for each in chosen:
            each.release()
    for folder in folders:
        console.print(_table(Run(folder), chosen))
    reasons: dict[tuple[str, str], list[str]] = {}
    for place, by, reason in failures:
        reasons.setdefault((by, reason), []).append(place)
    for (by, reason), places in reasons.items():
        where = places[0] if len(places) == 1 else f"{len(places)} sets, the first {places[0]}"
        console.print(f"missing: {where}, by {by}: {reason}", style="red", highlight=False, markup=False)
    if failures:
        console.print("The same command finishes what is missing, and judges nothing twice.", highlight=False)
        raise typer.Exit(1)


def _table(run: Run, judges: list[Judge]) -> Any:
    """Return the shares of a run by these judges, before tuning and after the last finished stage."""

    last = len(run.stages) - 1
    table = Table("judge", "set", "metric", "responses", "stage 0", *([f"stage {last}"] if last else []))
    table.title = Text(str(run.path), "table.title")
    sets = [(name, "safety", "asr") for name in run.manifest.safety_sets]
    sets += [(name, "benign", "over_refusal") for name in run.manifest.benign_sets]
    for by in judges:
        for name, kind, metric in sets:
            keys = [Key(stage, Series(name, kind, by.label, metric)) for stage in dict.fromkeys((0, last))]
            cells = [f"{run.measures[key].value:.1f}" if key in run.measures else absence(run, key) for key in keys]
            count = sum((by.label, name) in stage.verdicts for stage in run.data) * len(run.data[0].ids[name])
            table.add_row(*map(Text, (by.label, name, metric, str(count), *cells)))
    return table
