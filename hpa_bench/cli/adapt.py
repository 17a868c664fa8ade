"""`hpa-bench adapt`: a method's edit on any two checkpoints."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hpa_bench.adaptation import Adaptation
from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.config import parse_settings
from hpa_bench.machine.imports import without_collections
from hpa_bench.machine.numerics import pin
from hpa_bench.plugins import load_plugins
from hpa_bench.redact import clean


def adapt(
    before: Annotated[str, typer.Option(help="theta_{t-1}: a checkpoint folder, or a name on the Hugging Face hub.")],
    after: Annotated[str, typer.Option(help="The same model after it was tuned, or the folder of its LoRA adapter.")],
    out: Annotated[Path, typer.Option(help="The edited checkpoint's folder; it must not hold anything yet.")],
    method: Annotated[str, typer.Option("--method", "-m", help="A method that edits weights.")] = "hpa",
    safety: Annotated[
        str | None,
        typer.Option(metavar="FILE|TASK", help="Harmful requests: a LLaVA-format file or folder, or an lm-eval task."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="FILE|TASK", help="Training samples of the new task, likewise.")
    ] = None,
    unaligned: Annotated[str | None, typer.Option(help="The model before its safety alignment.")] = None,
    start: Annotated[
        str | None, typer.Option(help="theta_0, the aligned model. Default: --before, as in a first stage.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="A folder for what the method keeps from stage to stage (ties, magmax).")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help='The aligned model\'s answers to --safety: {"id", "response"} a line.')
    ] = None,
    stage: Annotated[int, typer.Option(help="Which tuning after the alignment this is, from 1.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the choice of calibration samples.")] = 0,
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="A hyper-parameter: p_max=20, or task_samples=64, dtype, ..."),
    ] = [],  # noqa: B006
    data_root: options.DataRoot = None,
    include_path: Annotated[list[Path], typer.Option(help="A further folder of lm-eval YAMLs.")] = [],  # noqa: B006
    plugin: options.Plugins = [],  # noqa: B006
    figure: Annotated[
        Path | None, typer.Option(help="Draw what is left, by layer, to this name with .png and .svg.")
    ] = None,
    device: options.Device = "auto",
) -> None:
    """Edit a tuned checkpoint by a method (hpa, safe_delta, wise_ft, ...), a block at a time, and write it."""

    pin(str(parse_settings(settings).get("numerics")))
    if plugin:
        load_plugins(plugin)
    asked = Adaptation(
        method=method,
        before=before,
        after=after,
        out=out,
        safety=safety,
        task=task,
        unaligned=unaligned,
        start=start,
        state=state,
        answers=answers,
        stage=stage,
        settings=settings,
        seed=seed,
        data_root=data_root,
        include_paths=include_path,
        device=device,
        command=clean(shlex.join(["hpa-bench", *sys.argv[1:]])),
    )
    # Torch and matplotlib come once the options are read.
    with without_collections():
        from hpa_bench.report.edits import edit_table, save_edit_figure
        from hpa_bench.runner import adapt as runner

    console = make_console()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TextColumn("ETA"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task("reading", total=None)

        def written(done: int, total: int, name: str) -> None:
            bar.update(shown, completed=done, total=total, description=name)

        record = runner.adapt(asked, runner.Watch(written, lambda text: console.print(text, highlight=False)))
    console.print(edit_table(record))
    left = "" if record.norm is None else f", {record.norm:.1%} of the norm of the change is left"
    seconds, memory = record.seconds or 0.0, (record.peak_memory_bytes or 0) / 1e9
    console.print(
        f"{record.method}: {len(record.layers)} weights edited{left}; {seconds:.1f} s, peak memory {memory:.1f} GB.",
        highlight=False,
    )
    if figure is not None:
        save_edit_figure(record, figure)
        console.print(f"Figure: {figure.with_suffix('.png')}, {figure.with_suffix('.svg').name}", highlight=False)
    console.print(f"Checkpoint: {out} (its record: {out / runner.RECORD})", highlight=False)
