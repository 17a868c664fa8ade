"""`hpa-bench status`: how far runs are, from any shell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hpa_bench.cli.console import make_console
from hpa_bench.cli.watch import View, ended, going, say, summary
from hpa_bench.errors import UserError
from hpa_bench.runner.watching import find_logs

POLL_SECONDS = 0.5


def status(
    runs: Annotated[Path, typer.Argument(help="A folder with runs at or below it.")] = Path("runs"),
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing those that are on their way.")] = False,
) -> None:
    """Show how far runs are, when they will be done, and AP and MASR of the finished ones."""
    logs = find_logs(runs)
    if not logs:
        raise UserError(f"No run in {runs}: expected a folder with an events.jsonl at or below it.")
    console = make_console()
    for log in logs:
        if log.state != "waiting":
            say(going(log) if log.state == "running" else ended(log), console)
    say(summary(logs), console)
    if not watch:
        return
    known = {log.folder: log for log in logs}
    with View(console).shown() as view:
        while any(log.state in ("running", "waiting") for log in known.values()):
            time.sleep(POLL_SECONDS)
            for log in known.values():
                log.update()
            view.show(lambda: list(known.values()))
    say(summary(list(known.values())), console)
