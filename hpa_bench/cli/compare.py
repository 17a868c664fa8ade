"""`hpa-bench compare`: several methods and seeds, then the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpa_bench.cli import options
from hpa_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from hpa_bench.spec import RunSpec


def compare(
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas, settings after colons: hpa,hpa:p_max=20; or all.")
    ] = "all",
    seeds: Annotated[str, typer.Option(help="Seeds, as in 0-2 or 0,3,5.")] = "0-2",
    suite: options.Suite = "tiny",
    settings: options.Settings = [],  # noqa: B006
    order: options.Order = None,
    harmful_ratio: options.HarmfulRatio = 0.0,
    plugin: options.Plugins = [],  # noqa: B006
    runs: Annotated[Path, typer.Option(help="The folder that holds the runs.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Where the report is written. Default: RUNS/SUITE/report.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time, the cores shared out; 0: one a core.")] = 0,
    device: options.Device = "auto",
) -> None:
    """Run what is missing of several methods and seeds, go on past a run that fails, and write their report."""
    from hpa_bench.cli.console import make_console
    from hpa_bench.registry import load_plugins
    from hpa_bench.registry import methods as registry
    from hpa_bench.spec import make_spec

    load_plugins(plugin)
    names = registry.names() if methods == "all" else [name.strip() for name in methods.split(",")]
    wanted: dict[Path, tuple[list[str], RunSpec]] = {}
    for seed in _seeds(seeds):
        for name, own in zip(names, _own_settings(settings, names), strict=True):
            spec = make_spec(suite, name, seed, own, order, harmful_ratio)
            arguments = ["--suite", suite, "--method", name, "--seed", str(seed), "--device", device, "--no-report"]
            arguments += [part for setting in own for part in ("--set", setting)]
            arguments += [part for path in plugin for part in ("--plugin", str(path))]
            arguments += ["--order", order] if order else []
            arguments += ["--harmful-ratio", str(harmful_ratio)] if harmful_ratio else []
            wanted[spec.default_folder(runs)] = (arguments, spec)

    console = make_console()
    failed = _run_missing(wanted, jobs or os.cpu_count() or 1, console)

    from hpa_bench.report import terminal_table, write_report
    from hpa_bench.store import MANIFEST, RunFolder

    begun = [RunFolder(folder) for folder in wanted if (folder / MANIFEST).exists()]
    if not begun:
        raise UserError("No run could be started; the first one says: " + next(iter(failed.values())))
    suite_name = next(iter(wanted.values()))[1].suite.name
    page = write_report(begun, out or runs / suite_name / "report")
    console.print(terminal_table(begun))
    for folder, reason in failed.items():
        console.print(f"[red]missing:[/red] {folder}: {reason}", highlight=False)
    console.print(f"Report: {page}", highlight=False)
    if failed:
        raise typer.Exit(1)


def _run_missing(wanted: dict[Path, tuple[list[str], RunSpec]], jobs: int, console: Console) -> dict[Path, str]:
    """Run what is not finished, so many at a time; return why each run that failed did."""
    import subprocess
    from concurrent.futures import ThreadPoolExecutor, as_completed

    missing = {folder: arguments for folder, (arguments, _) in wanted.items() if not _finished(folder)}
    console.print(f"{len(wanted)} runs, {len(wanted) - len(missing)} finished before.", highlight=False)
    jobs = max(1, min(jobs, len(missing)))
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    failed: dict[Path, str] = {}

    def run(folder: Path) -> str:
        command = [sys.executable, "-m", "hpa_bench", "run", *missing[folder], "--out", str(folder)]
        log = folder.with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": threads}
            ).returncode
        lines = log.read_text().strip().splitlines()
        return "" if code == 0 else (lines[-1].removeprefix("Error: ") if lines else f"exit status {code}")

    with ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(run, folder): folder for folder in missing}
        for done, future in enumerate(as_completed(pending), 1):
            folder = pending[future]
            if reason := future.result():
                failed[folder] = reason
            console.print(f"[{done}/{len(missing)}] {folder}: {reason or 'finished'}", highlight=False, markup=False)
    return failed


def _finished(folder: Path) -> bool:
    from hpa_bench.store import MANIFEST, RunFolder

    run = RunFolder(folder)
    return (folder / MANIFEST).exists() and len(run.finished_stages()) == len(run.manifest["stages"]) + 1


def _seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(seed for part in text.split(",") for seed in _range(part)))
    except ValueError:
        raise UserError(f"--seeds {text!r} is not a list of seeds: expected 0-2 or 0,3,5.") from None


def _range(part: str) -> range:
    first, dash, last = part.partition("-")
    return range(int(first), int(last if dash else first) + 1)


def _own_settings(settings: Sequence[str], names: Sequence[str]) -> Iterator[list[str]]:
    """Yield, for each method, the settings that are the suite's or its own; each must be somebody's."""
    from hpa_bench.config import keys
    from hpa_bench.registry import methods as registry
    from hpa_bench.suite import Suite

    fields = [registry.get(name.partition(":")[0]).Config.model_fields for name in names]
    heads = [setting.partition("=")[0].split(".")[0] for setting in settings]
    for head in heads:
        if head not in Suite.model_fields and not any(head in own for own in fields):
            raise unknown("key", head, [*keys(Suite), *(key for own in fields for key in own)], "in --set")
    for own in fields:
        yield [s for s, head in zip(settings, heads, strict=True) if head in own or head in Suite.model_fields]
