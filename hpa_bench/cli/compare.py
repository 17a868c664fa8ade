"""`hpa-bench compare`: several methods, seeds and conditions, then the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.cli.launching import chosen_launcher, make_missing, named_methods, say_missing, split_launch
from hpa_bench.cli.planning import planned, repeats, seeds_of
from hpa_bench.cli.publishing import Publisher, ask_published, together, unpublished
from hpa_bench.errors import UserError
from hpa_bench.machine.disk import make_writable
from hpa_bench.machine.processes import processes
from hpa_bench.plugins import load_plugins
from hpa_bench.report import terminal_table, write_report
from hpa_bench.report.conditions import conditions, misfit
from hpa_bench.results.tuned import Tuned, read_tuned
from hpa_bench.runner.trackers import check_tracker
from hpa_bench.spec import RunOptions, RunSpec


def compare(
    methods: options.Methods = "all",
    seeds: options.Seeds = "0-2",
    suite: options.Suite = "tiny",
    settings: options.Settings = [],  # noqa: B006
    order: options.Orders = [],  # noqa: B006
    harmful_ratio: options.HarmfulRatios = [],  # noqa: B006
    harmful_data: options.HarmfulData = None,
    data_root: options.DataRoot = None,
    engine: options.Engine = None,
    plugin: options.Plugins = [],  # noqa: B006
    noise: options.NoiseRuns = 0,
    runs: Annotated[Path, typer.Option(help="The folder that holds the runs.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Where the report is written. Default: RUNS/SUITE/report.")] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=0,
            help="Runs at a time, the cores shared out; 0: one on a GPU, else one a core. Short for local:slots=N.",
        ),
    ] = 0,
    gpus: options.Gpus = None,
    launcher: options.Launcher = None,
    launch_file: options.LaunchFile = None,
    tuned: options.TunedFile = None,
    beside: options.With = None,
    publish: Annotated[
        Path | None,
        typer.Option(help="Publish each run here as it finishes, remove its folder, and write no report."),
    ] = None,
    again: options.Again = False,
    device: options.Device = "auto",
    track: options.Track = None,
    show_unsafe: options.ShowUnsafe = False,
) -> None:
    """Run what is missing of several methods and seeds, go on past a run that fails, and write their report."""

    if processes() > 1:
        raise UserError(
            f"compare starts its runs itself and cannot be launched as {processes()} processes: launch `hpa-bench run`"
            " for each run, then `hpa-bench compare` finds them finished and writes the report."
        )
    load_plugins(plugin)
    if track is not None:
        check_tracker(track)
    settings, own = split_launch(settings)
    starter = chosen_launcher(launcher, own, {"slots": jobs, "gpus": gpus}, launch_file)
    names, broken = named_methods(methods)
    common = RunOptions(
        suite=suite,
        settings=settings,
        harmful_data=harmful_data,
        data_root=data_root,
        engine=engine,
        plugins=plugin,
    )
    chosen = read_tuned(tuned) if tuned is not None else None
    if chosen is not None:
        names = _with_tuned(names, chosen, seeds_of(seeds))
    wanted = planned(common, names, seeds_of(seeds), order or [None], harmful_ratio or [0.0], runs)
    if chosen is not None:
        _check_tuned(chosen, wanted)
    wanted |= repeats(wanted, seeds_of(seeds)[0], noise, runs)

    console = make_console()
    suite_name = next(iter(wanted.values())).suite.name
    place = publish or out or runs / suite_name / "report"
    for folder in (runs, place):
        make_writable(folder)
    published = ask_published(wanted, beside, suite, console) if beside is not None else []
    wanted = unpublished(wanted, published)
    publisher = Publisher(publish, show_unsafe) if publish is not None else None
    if publisher is not None:
        wanted = publisher.begin(wanted, again)
    take, made = (publisher.take, publisher.has) if publisher else (None, None)
    failed = make_missing(wanted, starter, device, again, console, take, made, track)

    if publisher is None:
        results = conditions(together(wanted, published), chosen)
        page = write_report(results, place, show_unsafe=show_unsafe)
        console.print(terminal_table(results))
    say_missing({**broken, **failed}, console)
    console.print(f"Published: {publish}" if publisher else f"Report: {page}", highlight=False)
    if failed or broken:
        raise typer.Exit(1)


def _with_tuned(names: Sequence[str], tuned: Tuned, seeds: Sequence[int]) -> list[str]:
    """Return the methods, each followed by its tuned form."""
    if used := sorted({*seeds} & {*tuned.seeds}):
        raise UserError(f"--seeds has {used[0]}, by which settings were chosen: take seeds that no trial had.")
    return tuned.with_chosen(names)


def _check_tuned(tuned: Tuned, wanted: Mapping[Path, RunSpec]) -> None:
    for spec in wanted.values():
        if reason := misfit(tuned, spec.suite.name, spec.identity()["suite_config"]):
            raise UserError(reason)
