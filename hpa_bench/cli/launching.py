"""What verbs share that have several runs made: which methods, what is missing, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Launcher
from hpa_bench.method import methods as registry
from hpa_bench.runner.launch import launch, missing
from hpa_bench.spec import RunSpec


def named_methods(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the methods that a list names and, of `all`, those that cannot be loaded, each with the reason."""
    names: list[str] = []
    broken: dict[str, str] = {}
    for part in text.split(","):
        if part.strip() != "all":
            names.append(part.strip())
            continue
        for name in registry.names():
            try:
                registry.get(name)
            except UserError as error:
                broken[name] = str(error)
            else:
                names.append(name)
    return list(dict.fromkeys(names)), broken


def make_missing(
    wanted: Mapping[Path, RunSpec],
    launcher: Launcher,
    device: str,
    again: bool,
    console: Console,
    finished: Callable[[Path], None] | None = None,
) -> dict[str, str]:
    """Have those of the wanted runs made that are not finished, say how each went, and return why runs failed.

    Args:
        wanted: runs by their folders.
        launcher: who starts them.
        device: cpu, cuda, or "auto".
        again: set aside and make anew what was made before its model's files or its plugin changed.
        console: where to say it.
        finished: is called with the folder of each run that finishes.
    """
    todo = missing(wanted, again)
    console.print(f"{len(wanted)} runs, {len(wanted) - len(todo)} finished before.", highlight=False)
    failed: dict[str, str] = {}
    for done, (folder, reason) in enumerate(launch(todo, launcher, device), 1):
        console.print(f"[{done}/{len(todo)}] {folder}: {reason or 'finished'}", highlight=False, markup=False)
        if reason:
            failed[str(folder)] = reason
        elif finished is not None:
            finished(folder)
    return failed


def say_missing(reasons: Mapping[str, str], console: Console) -> None:
    """Say what is missing, and why."""
    for name, reason in reasons.items():
        console.print(f"missing: {name}: {reason}", style="red", highlight=False, markup=False)
