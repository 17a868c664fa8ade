"""`hpa-bench plan`: what a comparison comes to, before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hpa_bench.cli import options
from hpa_bench.cli.console import make_console
from hpa_bench.cli.launching import named_methods, say_missing
from hpa_bench.cli.planning import planned, repeats, seeds_of
from hpa_bench.cli.watch import duration, say
from hpa_bench.errors import UserError
from hpa_bench.machine.device import choose_device
from hpa_bench.machine.disk import make_writable
from hpa_bench.plugins import load_plugins
from hpa_bench.report.tables import amount
from hpa_bench.runner.price import Bytes, Prices, Work, adds_samples, shared
from hpa_bench.runner.probe import Pace, measure
from hpa_bench.spec import RunOptions, RunSpec, check_spec

Wanted = Mapping[Path, RunSpec]


def plan(
    methods: options.Methods = "all",
    seeds: options.Seeds = "0-2",
    suite: options.Suite = "tiny",
    settings: options.Settings = [],  # noqa: B006
    order: options.Orders = [],  # noqa: B006
    harmful_ratio: options.HarmfulRatios = [],  # noqa: B006
    harmful_data: options.HarmfulData = None,
    data_root: options.DataRoot = None,
    engine: options.Engine = None,
    plugin: options.Plugins = [],  # noqa: B006
    noise: options.NoiseRuns = 0,
    runs: Annotated[Path, typer.Option(help="The folder that would hold the runs; probes are made in it.")] = Path(
        "runs"
    ),
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Make a short run of each method here, and say the hours; a model whose weights are not here is drawn"
            " at random in its shape.",
        ),
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Say what `compare` would take with these options: runs, steps, requests, bytes, and by --probe hours."""
    load_plugins(plugin)
    names, broken = named_methods(methods)
    common = RunOptions(
        suite=suite, settings=settings, harmful_data=harmful_data, data_root=data_root, engine=engine, plugins=plugin
    )
    wanted = planned(common, names, seeds_of(seeds), order or [None], harmful_ratio or [0.0], runs)
    wanted |= repeats(wanted, seeds_of(seeds)[0], noise, runs)
    console = make_console()
    wanted, refused = _possible(wanted)
    if not wanted:
        raise UserError(next(iter({**broken, **refused}.values())))
    chosen = choose_device(device)
    prices = Prices(chosen)
    works = {folder: prices.work(spec) for folder, spec in wanted.items()}
    paces: dict[str, Pace] = {}
    if probe:
        paces, failed = _probed(wanted, runs, chosen, console)
        refused |= failed
    console.print(_table(wanted, works, paces))
    for line in _more(wanted, works, prices, paces):
        say(line, console)
    say_missing({**broken, **refused}, console)


def _possible(wanted: Wanted) -> tuple[dict[Path, RunSpec], dict[str, str]]:
    """Return the runs whose suite offers what their method needs, and why the other methods have none."""
    refused: dict[Path, str] = {}
    # Runs that differ in their seed alone lie in one folder.
    alike = {folder.parent: spec for folder, spec in wanted.items()}
    for folder, spec in alike.items():
        try:
            check_spec(spec)
        except UserError as error:
            refused[folder] = str(error)
    possible = {folder: spec for folder, spec in wanted.items() if folder.parent not in refused}
    return possible, {_label(alike[folder]): reason for folder, reason in refused.items()}


def _label(spec: RunSpec) -> str:
    own = spec.config.model_dump(exclude_defaults=True)
    return ":".join([spec.method.name, *(f"{key}={value}" for key, value in own.items())])


def _groups(wanted: Wanted) -> dict[str, dict[Path, RunSpec]]:
    """Return the runs of each method with its settings."""
    found: dict[str, dict[Path, RunSpec]] = {}
    for folder, spec in wanted.items():
        found.setdefault(_label(spec), {})[folder] = spec
    return found


def _probed(wanted: Wanted, runs: Path, device: str, console: Console) -> tuple[dict[str, Pace], dict[str, str]]:
    paces: dict[str, Pace] = {}
    failed: dict[str, str] = {}
    make_writable(runs)
    groups = _groups(wanted)
    for number, (label, of_method) in enumerate(groups.items(), 1):
        say(f"[{number}/{len(groups)}] probing {label}", console)
        with TemporaryDirectory(dir=runs, prefix=".probe-") as folder:
            try:
                paces[label] = measure(next(iter(of_method.values())), Path(folder).absolute(), device)
            except UserError as error:
                failed[label] = f"no probe: {error}"
    return paces, failed


def _table(wanted: Wanted, works: Mapping[Path, Work], paces: Mapping[str, Pace]) -> Table:
    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("method", "runs", "steps", "requests", "trained tokens", "prompt tokens", "new tokens at most"):
        found.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    if paces:
        for name in ("a run", "all", "peak memory", "state"):
            found.add_column(name, justify="right", no_wrap=True)
    times = _times(wanted, works, paces)
    for label, group in [*_groups(wanted).items(), ("all", dict(wanted))]:
        own = [works[folder] for folder in group]
        more = "+" if label != "all" and adds_samples(next(iter(group.values())).method) else ""
        cells = [label, str(len(group)), f"{sum(sum(work.steps) for work in own):,}{more}"]
        cells += [f"{sum(sum(work.requests) for work in own):,}"]
        cells += [f"{sum(work.training_tokens for work in own):,}{more}"]
        cells += [f"{sum(work.prompt_tokens for work in own):,}"]
        cells += [f"{sum(work.new_tokens for work in own):,}"]
        if paces:
            known = [times[folder] for folder in group if folder in times]
            alone = sum(full for full, _ in known) / max(len(known), 1)
            pace = paces.get(label)
            cells += [duration(alone if known else None), duration(sum(least for _, least in known) if known else None)]
            cells += [amount("bytes", pace.peak_memory), amount("bytes", pace.state)] if pace else ["", ""]
        found.add_row(*cells, end_section=label == "all")
    return found


def _times(wanted: Wanted, works: Mapping[Path, Work], paces: Mapping[str, Pace]) -> dict[Path, tuple[float, float]]:
    """Return the seconds of each run alone, and without what it takes from others of these."""
    answers, training = shared(wanted)
    found = {}
    for folder, spec in wanted.items():
        if (pace := paces.get(_label(spec))) is not None:
            least = pace.seconds(works[folder], folder in answers, folder in training)
            found[folder] = pace.seconds(works[folder]), least
    return found


def _more(wanted: Wanted, works: Mapping[Path, Work], prices: Prices, paces: Mapping[str, Pace]) -> Sequence[str]:
    answers, training = shared(wanted)
    sizes = {folder: prices.bytes_of(spec) for folder, spec in wanted.items()}
    most = max(sizes.values(), key=lambda size: size.disk)
    kept = sum(size.kept for size in sizes.values())
    lines = [
        f"Done once: stage 0 for {len(answers)} of the {len(wanted)} runs and the first task's training for"
        f" {len(training)} come from another run, and are counted above.",
        _memory(max(sizes.values(), key=lambda size: size.weights + size.training), bool(paces)),
        f"Disk: {amount('bytes', most.disk)} a run at its fullest; {amount('bytes', kept)} for all once done, unless"
        " --publish removes each. What methods remember comes on top.",
    ]
    if any(adds_samples(spec.method) for spec in wanted.values()):
        lines.append("+ and more: the method may add samples to those of the task.")
    times = _times(wanted, works, paces)
    if times:
        alone, least = (sum(seconds[index] for seconds in times.values()) for index in (0, 1))
        lines.append(
            f"Hours: {least / 3600:.2f} of one device for {len(times)} runs, {alone / 3600:.2f} if nothing were shared;"
            " divide by the devices."
        )
    return lines


def _memory(size: Bytes, probed: bool) -> str:
    more = "the peak of a probe stands above" if probed else "--probe measures the peak"
    return (
        f"Memory: {amount('bytes', size.weights)} of weights, {amount('bytes', size.training)} of adapters, gradients"
        f" and AdamW's moments; activations come on top: {more}."
    )
