"""What verbs share that have several runs made: which methods, what is missing, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hpa_bench.cli.watch import View, say, scores
from hpa_bench.config import parse_settings, read_yaml, split_settings
from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Launcher, make_launcher
from hpa_bench.machine.stopping import Stopped
from hpa_bench.method import methods as registry
from hpa_bench.runner.launch import Launching, launch, missing
from hpa_bench.runner.watching import RunLog
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


OWN = "launch."
"""What begins a setting of the launcher, among those of the suite and the methods."""


def split_launch(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the settings of `--set` that are not the launcher's, and those that are, without `launch.`."""
    own = [setting.strip().removeprefix(OWN) for setting in settings if setting.strip().startswith(OWN)]
    return [setting for setting in settings if not setting.strip().startswith(OWN)], own


def chosen_launcher(named: str | None, own: Sequence[str], short: Mapping[str, Any], file: Path | None) -> Launcher:
    """Return the launcher that a user asks for; what is named first has the last word.

    Args:
        named: a registered name, with options after colons; None: the file's, or local.
        own: `key=value` of `--set launch.KEY=VALUE`.
        short: options by options of the command line of their own; those that are not given are empty.
        file: YAML whose section `launch` has the launcher's name and options.

    Raises:
        UserError: no such file, launcher or option, or the file's section is for another launcher.
    """
    section = dict(_section(file)) if file is not None else {}
    name = str(section.pop("launcher", "local"))
    if named is not None and file is not None and split_settings(named)[0] != name:
        raise UserError(f"--launcher {named}, and {file} is for the launcher {name!r}: leave out one.")
    given = {key: value for key, value in short.items() if value}
    return make_launcher(named or name, **(section | given | parse_settings(list(own))))


def _section(file: Path) -> Mapping[str, Any]:
    try:
        read = read_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--launch-file {file} cannot be read ({error}): expected YAML with a section launch."
        ) from None
    section = read.get("launch") if isinstance(read, dict) else None
    if not isinstance(section, dict):
        raise UserError(
            f"--launch-file {file} has no section launch: expected `launch: {{launcher: slurm, time: 12h}}`."
        )
    return section


def make_missing(
    wanted: Mapping[Path, RunSpec],
    launcher: Launcher,
    device: str,
    again: bool,
    console: Console,
    finished: Callable[[Path], None] | None = None,
    made: Callable[[Path], bool] | None = None,
    track: str | None = None,
) -> dict[str, str]:
    """Have those of the wanted runs made that are not finished, say how each went, and return why runs failed.

    Args:
        wanted: runs by their folders.
        launcher: who starts them.
        device: cpu, cuda, or "auto".
        again: set aside and make anew what was made before its model's files or its plugin changed.
        console: where to say it.
        finished: is called with the folder of each run that finishes.
        made: as of `launch`.
        track: the tracker that is told of each run, as of `--track`.
    """
    todo = missing(wanted, again)
    console.print(f"{len(wanted)} runs, {len(wanted) - len(todo)} finished before.", highlight=False)
    failed: dict[str, str] = {}
    done = 0
    logs = {folder: RunLog(folder) for folder in wanted}
    try:
        with View(console).shown() as view:

            def watch(launching: Launching) -> None:
                view.show(lambda: list(logs.values()), launching.at_once)

            for folder, reason in launch(todo, launcher, device, watch, made, track):
                done += 1
                logs[folder].update()
                said = reason or ", ".join(part for part in ("finished", scores(logs[folder])) if part)
                say(f"[{done}/{len(todo)}] {folder}: {said}", console)
                if reason:
                    failed[str(folder)] = reason
                elif finished is not None:
                    finished(folder)
    except Stopped as stopped:
        stopped.done = f"{len(wanted) - len(todo) + done - len(failed)} of {len(wanted)} done"
        raise
    return failed


def say_missing(reasons: Mapping[str, str], console: Console) -> None:
    """Say what is missing, and why."""
    for name, reason in reasons.items():
        console.print(f"missing: {name}: {reason}", style="red", highlight=False, markup=False)
