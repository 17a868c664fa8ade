"""`hpa-bench verify`: whether a published run has the same responses on this machine."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from hpa_bench.cli.console import make_console
from hpa_bench.errors import UserError
from hpa_bench.report.beside import main_condition
from hpa_bench.results.published import find_results, locate
from hpa_bench.results.runs import read_runs
from hpa_bench.runner.verify import choose, first_difference, make_again


def verify(
    where: Annotated[
        str,
        typer.Argument(
            help="Published results or a run's folder; published, published:SUITE: those that come with hpa-bench."
        ),
    ] = "published",
    suite: Annotated[
        str | None, typer.Option(help="The path of the suite, where it is not one of hpa-bench's.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Whose run, by its name in tables. Default: hpa's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of which seed. Default: the lowest with its responses.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the new run in this folder.")] = None,
) -> None:
    """Make one published run again on this machine, and compare every response."""

    runs = read_runs(find_results([locate(where)]))
    wanted = [run for run in runs if method in (None, run.label) and seed in (None, run.seed)]
    if not wanted:
        listed = ", ".join(sorted({run.label for run in runs}))
        raise UserError(f"There is no run of {method or 'any method'} with seed {seed} in {where}: it has {listed}.")
    there = choose(main_condition(wanted))

    console = make_console()
    console.print(f"Published: {there.path}")
    console.print(f"{there.label}, seed {there.seed}, of {there.manifest.suite_title} is made again.")
    with TemporaryDirectory(prefix="hpa-bench-") as temporary:
        here = make_again(there, out or Path(temporary) / "run", suite)
        found = first_difference(there, here)
    if found:
        console.print(f"The responses differ from the published run's, first in {found}.")
        raise typer.Exit(1)
    console.print("Every response equal to the published run.")
