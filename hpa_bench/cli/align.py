"""`hpa-bench align`: the safety alignment that a benchmark starts from."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.alignment import Alignment
from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.machine.imports import without_collections
from hpa_bench.machine.processes import is_main
from hpa_bench.redact import clean
from hpa_bench.runner.progress import Progress


def align(
    model: Annotated[str, typer.Option(help="The base model: a checkpoint folder, or a name on the Hugging Face hub.")],
    data: Annotated[
        str, typer.Option(help="Tasks to train on, separated by commas: vlguard, spa-vl, or any with a training split.")
    ],
    out: Annotated[Path, typer.Option(help="The aligned checkpoint's folder; it must not hold anything yet.")],
    seed: Annotated[int, typer.Option(help="Seed of data order and adapter init.")] = 0,
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="The recipe: lora.rank=64, training.learning_rate=1e-4, ..."),
    ] = [],  # noqa: B006
    data_root: options.DataRoot = None,
    include_path: Annotated[list[Path], typer.Option(help="A further folder of lm-eval YAMLs.")] = [],  # noqa: B006
    device: options.Device = "auto",
) -> None:
    """Fine-tune a model on safety data (LoRA, merged) and write it as a checkpoint that a suite can start from."""

    asked = Alignment(
        model=model,
        data=data.split(","),
        out=out,
        settings=settings,
        seed=seed,
        data_root=data_root,
        include_paths=include_path,
        device=device,
        command=clean(shlex.join(["hpa-bench", *sys.argv[1:]])),
    )
    asked.check()
    # Torch comes once all that was asked for is known to be there.
    with without_collections():
        from hpa_bench.runner.alignment import align as align_model

    console = make_console()
    made = align_model(asked, [Progress(console)] if is_main() else [])
    if not is_main():
        return
    rows = ", ".join(f"{count} rows of {name}" for name, count in made.samples.items())
    console.print(f"Trained on {rows}: {made.steps} steps, {made.seconds:.1f} s.", highlight=False)
    console.print(f"Checkpoint: {out}", highlight=False)
