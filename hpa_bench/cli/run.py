"""`hpa-bench run`: one method across a suite's tasks."""

import time
from pathlib import Path
from typing import Annotated

import typer

from hpa_bench import api
from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.errors import UserError
from hpa_bench.machine.processes import is_main
from hpa_bench.report import terminal_table
from hpa_bench.report.conditions import conditions
from hpa_bench.results.runs import read_runs
from hpa_bench.runner.events import Observer
from hpa_bench.runner.progress import Progress
from hpa_bench.runner.trackers import Tracking

BESIDE_SPEC = ("spec", "out", "resume", "again", "from_stage", "device", "report", "track", "show_unsafe")
"""What `--spec` leaves open; all else stands in the spec."""


def run(
    ctx: typer.Context,
    method: Annotated[str, typer.Option("--method", "-m", help="See `hpa-bench list methods`.")] = "hpa",
    suite: options.Suite = "tiny",
    seed: Annotated[int, typer.Option(help="Seed of data order, adapter init and calibration samples.")] = 0,
    settings: options.Settings = [],  # noqa: B006
    order: options.Order = None,
    harmful_ratio: options.HarmfulRatio = 0.0,
    harmful_data: options.HarmfulData = None,
    data_root: options.DataRoot = None,
    engine: options.Engine = None,
    plugin: options.Plugins = [],  # noqa: B006
    noise: Annotated[
        int,
        typer.Option(
            metavar="K",
            help="Noise run K of this seed: each stage's initial values are 1e-7 of themselves away (docs/tuning.md).",
        ),
    ] = 0,
    spec: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The run as JSON, instead of all options above; -: standard input (docs/running-at-scale.md).",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/SUITE/METHOD-HASH/seedN.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped, or start again.")] = True,
    again: options.Again = False,
    from_stage: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Redo the run from stage N on, keeping the old aside; takes what training.keep_weights keeps.",
        ),
    ] = None,
    device: options.Device = "auto",
    report: Annotated[bool, typer.Option(help="Write the run's own report.")] = True,
    track: options.Track = None,
    show_unsafe: options.ShowUnsafe = False,
) -> None:
    """Train one method across the tasks, score it after every stage, and write its report."""

    started = time.perf_counter()

    console = make_console()
    observers: list[Observer] = [Progress(console)] if is_main() else []
    if track is not None and is_main():
        observers.append(Tracking(track))
    if spec is not None:
        _refuse_beside_spec(ctx)
        finished = api.run_spec(
            api.read_spec(spec),
            out,
            resume=resume,
            again=again,
            from_stage=from_stage,
            device=device,
            observers=observers,
        )
    else:
        finished = api.run(
            suite,
            method,
            seed,
            settings=settings,
            order=order,
            harmful_ratio=harmful_ratio,
            harmful_data=harmful_data,
            data_root=data_root,
            engine=engine,
            plugins=plugin,
            noise=noise,
            out=out,
            resume=resume,
            again=again,
            from_stage=from_stage,
            device=device,
            observers=observers,
        )
    if not is_main():
        return

    begun = time.perf_counter()
    results = conditions(read_runs([finished]))
    page = None
    if report:
        from hpa_bench.report import write_report

        page = write_report(results, finished.path / "report", show_unsafe=show_unsafe)
    console.print(terminal_table(results))
    spent: dict[str, float] = {}
    for cost in [stage.cost for stage in finished.finished_stages()]:
        for step, seconds in cost["seconds"].items():
            spent[step] = spent.get(step, 0.0) + seconds - cost.get("shared", {}).get(step, 0.0)
    spent["report"] = time.perf_counter() - begun
    parts = " · ".join(f"{step} {seconds:.1f}" for step, seconds in spent.items())
    total = time.perf_counter() - started
    console.print(f"Seconds of the run: {parts}; this command, imports included: {total:.1f}", highlight=False)
    console.print(f"Run:    {finished.path}", highlight=False)
    if page:
        console.print(f"Report: {page}", highlight=False)


def _refuse_beside_spec(ctx: typer.Context) -> None:
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "")
        if parameter.name not in BESIDE_SPEC and given is not None and given.name == "COMMANDLINE":
            raise UserError(
                f"{parameter.opts[0]} cannot stand beside --spec, which says all of the run: leave out one."
            )
