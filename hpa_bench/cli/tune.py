"""`hpa-bench tune`: the same budget for every method, on validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.cli.launching import chosen_launcher, make_missing, named_methods, say_missing, split_launch
from hpa_bench.errors import UserError
from hpa_bench.machine.disk import make_writable
from hpa_bench.machine.processes import processes
from hpa_bench.plugins import load_plugins
from hpa_bench.runner.tune import plan, read_trials, written
from hpa_bench.spec import RunOptions

FEWEST = 8
"""Trials from which on a choice is more than a toss of the coin among a few settings."""
MOST = 1000


def tune(
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas, settings after colons; all: every one.")
    ] = "all",
    suite: options.Suite = "tiny",
    trials: Annotated[
        int, typer.Option(min=2, max=MOST, help="Of each method, the first with its defaults; 8 or more to be of use.")
    ] = FEWEST,
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A key of the suite.")] = [],  # noqa: B006
    data_root: options.DataRoot = None,
    engine: options.Engine = None,
    plugin: options.Plugins = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="The folder of the trials and of SUITE.json, the chosen settings.")] = Path(
        "tuned"
    ),
    jobs: Annotated[
        int, typer.Option(min=0, help="Runs at a time; 0: one on a GPU, else one a core. Short for local:slots=N.")
    ] = 0,
    gpus: options.Gpus = None,
    launcher: options.Launcher = None,
    launch_file: options.LaunchFile = None,
    again: options.Again = False,
    device: options.Device = "auto",
) -> None:
    """Search every method's strengths on validation rows, the same number of trials each; stopped, it goes on."""
    if processes() > 1:
        raise UserError(f"tune starts its runs itself and cannot be launched as {processes()} processes: launch one.")
    load_plugins(plugin)
    settings, own = split_launch(settings)
    starter = chosen_launcher(launcher, own, {"slots": jobs, "gpus": gpus}, launch_file)
    names, broken = named_methods(methods)
    common = RunOptions(suite=suite, settings=settings, data_root=data_root, engine=engine, plugins=plugin)
    planned = plan(common, names, trials, out)
    make_writable(out)
    planned.earlier()  # Another budget's is refused before any time is spent.

    console = make_console()
    failed = make_missing(planned.wanted, starter, device, again, console)
    found = written(planned, read_trials(planned))
    found.write(planned.file)
    for name in planned.trials:
        method = found.methods[name]
        best = max((trial.objective for trial in method.trials if trial.objective is not None), default=None)
        default = method.trials[0].objective
        chosen = ", ".join(f"{key}={value}" for key, value in method.chosen.items()) or "its defaults"
        console.print(
            f"{name}: {chosen} (objective {_shown(best)}, defaults {_shown(default)}, {len(method.trials)} trials)",
            highlight=False,
            markup=False,
        )
    for name, reason in planned.untuned.items():
        console.print(f"{name}: not tuned: {reason}", style="dim", highlight=False, markup=False)
    say_missing({**broken, **failed}, console)
    console.print(f"Tuned settings: {planned.file}", highlight=False)
    if failed or broken:
        raise typer.Exit(1)


def _shown(objective: float | None) -> str:
    return "missing" if objective is None else f"{objective:.1f}"
