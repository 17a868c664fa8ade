"""`hpa-bench prepare`: the checkpoints of a suite that the package ships in parts."""

from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli.console import make_console
from hpa_bench.errors import unknown
from hpa_bench.machine.disk import GIVE_AGAIN, check_space, make_writable, refusals_told
from hpa_bench.small.wheel import gguf_file
from hpa_bench.suite import read_suite

PREPARED = ("small", "small-full")
"""Suites whose models are assembled; the second has those of the first."""
CHECKPOINT = 550_000_000
"""Bytes of one, and a little more."""


def prepare(
    suite: Annotated[str, typer.Argument(help="small, or small-full, which has the same models.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where the checkpoints go; by default where the suite looks for them."),
    ] = None,
) -> None:
    """Assemble a suite's models from an installed language model and what the package ships, offline."""
    if suite not in PREPARED:
        raise unknown("suite to prepare", suite, PREPARED)
    values, _ = read_suite(suite)
    folder = out or Path(values["model"]).expanduser().parent
    # Torch comes once all that is asked for is known to be there.
    gguf_file()
    make_writable(folder)
    there = [folder / name for name in ("unaligned", "aligned") if (folder / name).exists()]
    # The old one goes once the new one is whole.
    check_space(folder, (2 + bool(there)) * CHECKPOINT, there, what=("suite", "its checkpoints"))
    from hpa_bench.models.loading import quiet
    from hpa_bench.small.assembly import assemble, written_otherwise

    console = make_console()
    console.print(f"Assembling into {folder}, 541 MB a checkpoint.", highlight=False)
    with refusals_told(folder, GIVE_AGAIN), quiet():
        made = assemble(folder)
    for name, digest in made.items():
        console.print(f"Checkpoint: {folder / name} (SHA-256 of its tensors: {digest[:12]})", highlight=False)
    if others := {name for made_of in made for name in written_otherwise(folder / made_of)}:
        console.print(
            f"Note: {', '.join(sorted(others))} came out otherwise than the published runs had it, by this version of"
            " transformers or tokenizers: runs with these checkpoints do not stand beside published ones.",
            highlight=False,
        )
