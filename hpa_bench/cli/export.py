"""`hpa-bench export`: runs as other programs read them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli.console import make_console
from hpa_bench.errors import UserError
from hpa_bench.report import hub
from hpa_bench.report.exported import write_csv, write_parquet
from hpa_bench.report.lm_eval_files import write_lm_eval
from hpa_bench.results.published import find_results, locate
from hpa_bench.results.runs import read_runs


class Form(StrEnum):
    """What to write."""

    LM_EVAL = "lm-eval"
    CSV = "csv"
    PARQUET = "parquet"
    HUB = "hub"


WRITERS = {Form.LM_EVAL: write_lm_eval, Form.CSV: write_csv, Form.PARQUET: write_parquet, Form.HUB: hub.write_hub}


def export(
    runs: Annotated[
        list[str], typer.Argument(help="Runs, published results, or folders that hold some; published: the package's.")
    ],
    to: Annotated[Form, typer.Option(help="What to write: lm-eval's own files, tables, or a folder for the hub.")],
    out: Annotated[Path, typer.Option(help="Where it is written.")] = Path("export"),
    upload: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME", help="With --to hub: upload the data set there. One that is new becomes private."
        ),
    ] = None,
    show_unsafe: Annotated[
        bool, typer.Option("--show-unsafe", help="Keep prompts, responses, ids and categories of safety sets.")
    ] = False,
) -> None:
    """Write runs for other programs: lm-eval's result and sample files, CSV, Parquet, or a data set with its card."""
    if upload is not None and to is not Form.HUB:
        raise UserError(f"--upload is for --to hub, and this is --to {to}: nothing was written.")
    found = read_runs(find_results(map(locate, runs)))
    WRITERS[to](found, out, show_unsafe)
    console = make_console()
    console.print(f"{out}: {len(found)} runs.", highlight=False)
    if upload is not None:
        console.print(f"Uploaded: {hub.upload(out, upload)}", highlight=False)
    elif to is Form.HUB:
        console.print(f"Upload: hf upload USER/NAME {out / 'dataset'} --repo-type dataset", highlight=False)
