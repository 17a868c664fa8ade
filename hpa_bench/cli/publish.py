"""`hpa-bench publish`: finished runs as data that others can read, compare with and verify."""

from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli.console import make_console
from hpa_bench.errors import UserError
from hpa_bench.results.publish import publish as publish_run
from hpa_bench.results.published import RESULTS
from hpa_bench.results.run_folder import find_runs
from hpa_bench.results.source import FolderSource


def publish(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold runs.")],
    out: Annotated[Path, typer.Option(help="The report's folder; results stand in its results/.")],
    show_unsafe: Annotated[
        bool, typer.Option("--show-unsafe", help="Keep the texts and images of safety sets, too (docs/results.md).")
    ] = False,
) -> None:
    """Publish finished runs: scores, verdicts, hashes of responses and costs, one small Parquet file a run."""

    console = make_console()
    new, refused = 0, []
    folders = find_runs(runs)
    for folder in folders:
        try:
            new += publish_run(FolderSource(folder), out, show_unsafe=show_unsafe).new
        except UserError as error:
            refused.append(str(error))
    for reason in refused:
        console.print(f"left out: {reason}", style="red", highlight=False)
    before = len(folders) - new - len(refused)
    said = f"{new} runs added, {before} there before, {len(refused)} left out"
    console.print(f"{out / RESULTS}: {said}.", highlight=False)
    if refused:
        raise typer.Exit(1)
