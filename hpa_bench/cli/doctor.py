"""`hpa-bench doctor`: what works on this machine, and a short run of the whole loop."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.text import Text

from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.errors import UserError
from hpa_bench.machine.device import choose_device
from hpa_bench.machine.disk import make_writable
from hpa_bench.plugins import load_plugins
from hpa_bench.redact import clean
from hpa_bench.runner.doctor import Finding, findings
from hpa_bench.runner.probe import measure
from hpa_bench.spec import RunOptions, make_spec


def doctor(
    suite: options.Suite = "tiny",
    method: Annotated[str, typer.Option("--method", "-m", help="Of the short run.")] = "hpa",
    settings: options.Settings = [],  # noqa: B006
    data_root: options.DataRoot = None,
    engine: options.Engine = None,
    plugin: options.Plugins = [],  # noqa: B006
    runs: Annotated[Path, typer.Option(help="The folder that holds runs, or will.")] = Path("runs"),
    smoke: Annotated[
        bool, typer.Option(help="Make the short run: two tasks, a few steps, an edit, some answers.")
    ] = True,
    device: options.Device = "auto",
) -> None:
    """Say what works on this machine, one line each, then make a short run of a suite's model, data and method."""
    load_plugins(plugin)
    console = make_console()

    def say(finding: Finding) -> None:
        mark = ("ok", "green") if finding.works else ("no", "yellow")
        console.print(Text.assemble(mark, f"  {finding.what}: {clean(finding.told)}"), highlight=False)

    chosen = choose_device(device)
    for finding in findings(runs, chosen):
        say(finding)
    if not smoke:
        return
    what = f"a short run of {method} on {suite}"
    began = time.perf_counter()
    try:
        make_writable(runs)
        asked = RunOptions(
            suite=suite, method=method, settings=settings, data_root=data_root, engine=engine, plugins=plugin
        )
        with TemporaryDirectory(dir=runs, prefix=".doctor-") as folder:
            pace = measure(make_spec(asked), Path(folder).absolute(), chosen)
    except UserError as error:
        say(Finding(what, False, str(error)))
        raise typer.Exit(1) from None
    told = (
        f"{time.perf_counter() - began:.0f} s; {pace.step:.2f} s a step, {pace.request:.3f} s a request,"
        f" {pace.stage:.1f} s an edit with its weights, {pace.peak_memory / 1e9:.1f} GB at the peak"
    )
    say(Finding(what, True, told))
