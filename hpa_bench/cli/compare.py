"""`hpa-bench compare`: several methods, seeds and conditions, then the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from hpa_bench.cli import options
from hpa_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from hpa_bench.spec import RunSpec


class _Planned(NamedTuple):
    """A run that is wanted: its specification, and the arguments of `hpa-bench run` that make it."""

    spec: RunSpec
    arguments: list[str]


def compare(
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas, settings after colons: hpa,hpa:p_max=20; all: every one.")
    ] = "all",
    seeds: Annotated[str, typer.Option(help="Seeds, as in 0-2 or 0,3,5.")] = "0-2",
    suite: options.Suite = "tiny",
    settings: options.Settings = [],  # noqa: B006
    order: Annotated[
        list[str],
        typer.Option(
            help="A training order: task names, or their numbers in the suite, as in 3,1,2. Several times: each one."
        ),
    ] = [],  # noqa: B006
    harmful_ratio: Annotated[
        list[float],
        typer.Option(help="A share of harmful training pairs (0.001 is 0.1%). Several times: each, with every order."),
    ] = [],  # noqa: B006
    harmful_data: options.HarmfulData = None,
    data_root: options.DataRoot = None,
    engine: options.Engine = None,
    plugin: options.Plugins = [],  # noqa: B006
    runs: Annotated[Path, typer.Option(help="The folder that holds the runs.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Where the report is written. Default: RUNS/SUITE/report.")] = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="Runs at a time, the cores shared out; 0: one on a GPU, else one a core.")
    ] = 0,
    device: options.Device = "auto",
    show_unsafe: options.ShowUnsafe = False,
) -> None:
    """Run what is missing of several methods and seeds, go on past a run that fails, and write their report."""
    from hpa_bench.cli.console import make_console
    from hpa_bench.machine.processes import processes
    from hpa_bench.plugins import load_plugins
    from hpa_bench.spec import make_spec

    if processes() > 1:
        raise UserError(
            f"compare starts its runs itself and cannot be launched as {processes()} processes: launch `hpa-bench run`"
            " for each run, then `hpa-bench compare` finds them finished and writes the report."
        )
    load_plugins(plugin)
    if engine is not None:
        settings = [*settings, f"evaluation.engine={engine}"]
    names, broken = _names(methods)
    wanted: dict[Path, _Planned] = {}
    orders: list[str | None] = [*order] or [None]
    for ratio, tasks, seed in product(harmful_ratio or [0.0], orders, _seeds(seeds)):
        for name, own in zip(names, _own_settings(settings, names), strict=True):
            # What a method needs and the suite lacks is found out by its run, so that the others still run.
            pairs = harmful_data if ratio else None
            spec = make_spec(suite, name, seed, own, tasks, ratio, data_root=data_root, harmful_data=pairs, needs=False)
            arguments = ["--suite", suite, "--method", name, "--seed", str(seed), "--device", device, "--no-report"]
            arguments += [part for setting in own for part in ("--set", setting)]
            arguments += [part for path in plugin for part in ("--plugin", str(path))]
            arguments += ["--order", tasks] if tasks else []
            arguments += ["--harmful-ratio", str(ratio)] if ratio else []
            arguments += ["--harmful-data", pairs] if pairs else []
            arguments += ["--data-root", data_root] if data_root else []
            wanted[spec.default_folder(runs)] = _Planned(spec, arguments)

    console = make_console()
    failed = _run_missing(wanted, jobs, device, console)

    from hpa_bench.report import terminal_table, write_report
    from hpa_bench.results.run_folder import RunFolder
    from hpa_bench.results.runs import read_runs

    results = read_runs(RunFolder(folder) for folder in wanted)
    suite_name = next(iter(wanted.values())).spec.suite.name
    page = write_report(results, out or runs / suite_name / "report", show_unsafe=show_unsafe)
    console.print(terminal_table(results))
    for name, reason in {**broken, **{str(folder): reason for folder, reason in failed.items()}}.items():
        console.print(f"missing: {name}: {reason}", style="red", highlight=False, markup=False)
    console.print(f"Report: {page}", highlight=False)
    if failed or broken:
        raise typer.Exit(1)


def _names(methods: str) -> tuple[list[str], dict[str, str]]:
    """Return the methods to run and, of `all`, those that cannot be loaded, each with the reason."""
    from hpa_bench.method import methods as registry

    names: list[str] = []
    broken: dict[str, str] = {}
    for part in methods.split(","):
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


def _run_missing(wanted: dict[Path, _Planned], jobs: int, device: str, console: Console) -> dict[Path, str]:
    """Run what is not finished, so many at a time (0: see `--jobs`); return why each run that failed did."""
    import subprocess
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from hpa_bench.machine.device import sees_gpu
    from hpa_bench.results.run_folder import FAILED, RunFolder
    from hpa_bench.runner.manifest import planned_manifest

    missing = {folder: planned for folder, planned in wanted.items() if not _finished(folder)}
    console.print(f"{len(wanted)} runs, {len(wanted) - len(missing)} finished before.", highlight=False)
    cores = os.cpu_count() or 1
    if missing and not jobs:  # Whether there is a GPU takes an import of torch to know.
        jobs = 1 if sees_gpu(device) else cores
    jobs = max(1, min(jobs, len(missing)))
    threads = str(max(1, cores // jobs))
    failed: dict[Path, str] = {}

    def run(folder: Path) -> str:
        command = [sys.executable, "-m", "hpa_bench", "run", *missing[folder].arguments, "--out", str(folder)]
        log = folder.with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        with log.open("w") as output:
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": threads}
            ).returncode
        if code == 0:
            return ""
        if code < 0:  # Its last line is whatever it was doing.
            return f"ended by signal {-code}"
        lines = log.read_text().strip().splitlines()
        return lines[-1].removeprefix("Error: ") if lines else f"exit status {code}"

    with ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(run, folder): folder for folder in missing}
        for done, future in enumerate(as_completed(pending), 1):
            folder = pending[future]
            if reason := future.result():
                spec = missing[folder].spec
                stages = spec.method(spec.config).curriculum(spec.suite.tasks)
                RunFolder(folder).record_failure(planned_manifest(spec, stages), reason)
                failed[folder] = reason
            console.print(f"[{done}/{len(missing)}] {folder}: {reason or 'finished'}", highlight=False, markup=False)
    return failed


def _finished(folder: Path) -> bool:
    from hpa_bench.results.run_folder import MANIFEST, RunFolder

    run = RunFolder(folder)
    return (folder / MANIFEST).exists() and len(run.finished_stages()) == len(run.manifest.stages) + 1


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
    from hpa_bench.method import methods as registry
    from hpa_bench.suite import Suite

    fields = [registry.get(name.partition(":")[0]).Config.model_fields for name in names]
    heads = [setting.partition("=")[0].split(".")[0] for setting in settings]
    for head in heads:
        if head not in Suite.model_fields and not any(head in own for own in fields):
            raise unknown("key", head, [*keys(Suite), *(key for own in fields for key in own)], "in --set")
    for own in fields:
        yield [s for s, head in zip(settings, heads, strict=True) if head in own or head in Suite.model_fields]
