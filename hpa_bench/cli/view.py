"""`hpa-bench view`: the samples of runs in a browser, served from this machine alone."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli.console import make_console
from hpa_bench.machine.stopping import Stopped
from hpa_bench.report.serving import Shelf, Viewer
from hpa_bench.results.published import locate


def view(
    runs: Annotated[
        list[str], typer.Argument(help="Runs, published results, or folders that hold some; published: the package's.")
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where it listens, at 127.0.0.1 alone; 0: a port that is free.")
    ] = 0,
    show_unsafe: Annotated[
        bool, typer.Option("--show-unsafe", help="Show requests, responses and images of safety sets.")
    ] = False,
) -> None:
    """Read the samples of runs in a browser, while they run too; Ctrl-C ends it."""

    shelf = Shelf([Path(locate(path)) for path in runs], show_unsafe)
    with Viewer(shelf, port, show_unsafe) as viewer:
        make_console().print(f"Samples: {viewer.address} (Ctrl-C ends it)", highlight=False)
        try:
            viewer.serve_forever()
        except Stopped as stopped:
            if stopped.number != signal.SIGINT:
                raise
