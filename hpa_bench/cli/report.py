"""`hpa-bench report`: tables, figures and a page from finished runs, with no model loaded."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.report import terminal_table, write_report
from hpa_bench.report.beside import others
from hpa_bench.report.conditions import conditions
from hpa_bench.report.paper import write_paper
from hpa_bench.results.published import find_results, locate
from hpa_bench.results.runs import read_runs
from hpa_bench.results.tuned import read_tuned
from hpa_bench.runner.verify import published_beside


class Figures(StrEnum):
    """What figures are for."""

    PAGE = "page"
    PAPER = "paper"


def report(
    runs: Annotated[list[Path], typer.Argument(help="Runs, published results, or folders that hold some.")],
    out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("report"),
    title: Annotated[str, typer.Option(help="The report's title.")] = "hpa-bench report",
    tuned: options.TunedFile = None,
    show_unsafe: options.ShowUnsafe = False,
    beside: options.With = None,
    figures: Annotated[
        Figures, typer.Option(help="paper: also paper/, figures as PDF and SVG at a paper's sizes, tables as LaTeX.")
    ] = Figures.PAGE,
    suite: Annotated[
        str | None, typer.Option(help="The path of the suite, where it does not come with hpa-bench; with --with only.")
    ] = None,
) -> None:
    """Compare runs: write report.html, tables as CSV and Markdown, and figures as PNG and SVG."""

    console = make_console()
    found = read_runs(find_results(runs))
    if beside is not None:
        own = [run.manifest for run in found]
        published = published_beside(own, locate(beside, own[0].suite), console.print, suite)
        found = read_runs(run.source for run in (*found, *others(published, own)))
    settings = read_tuned(tuned) if tuned is not None else None
    listed = conditions(found, settings)
    page = write_report(listed, out, title, show_unsafe=show_unsafe)
    console.print(terminal_table(listed))
    console.print(f"Report: {page}", highlight=False)
    if figures is Figures.PAPER:
        paper = write_paper(listed, out / "paper", title)
        console.print(f"For papers: {paper} shows all of {paper.parent}", highlight=False)
