"""Which runs a comparison is of: every method with every seed, under every condition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from hpa_bench.cli.options import MOST_SEEDS
from hpa_bench.errors import UserError
from hpa_bench.spec import RunOptions, RunSpec, make_spec

_RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")


def planned(
    common: RunOptions,
    methods: Sequence[str],
    seeds: Sequence[int],
    orders: Sequence[str | None],
    ratios: Sequence[float],
    runs: Path,
) -> dict[Path, RunSpec]:
    """Return every run that is wanted, by its folder below `runs`."""
    wanted: dict[Path, RunSpec] = {}
    for ratio, order in product(ratios, orders):
        pairs = common.harmful_data if ratio else None
        same = replace(common, seed=seeds[0], order=order, harmful_ratio=ratio, harmful_data=pairs)
        # What a method needs and the suite lacks is found out by its run, so that the others still run.
        checked = [make_spec(replace(same, method=method), beside=methods, needs=False) for method in methods]
        # The suite is read and checked once for all seeds.
        specs = [replace(spec, seed=seed) for seed in seeds for spec in checked]
        wanted |= {spec.default_folder(runs): spec for spec in specs}
    return wanted


def repeats(wanted: Mapping[Path, RunSpec], seed: int, noise: int, runs: Path) -> dict[Path, RunSpec]:
    """Return so many noise runs of each planned run with a seed, by folder; a method that trains nothing has none."""
    found = [spec for spec in wanted.values() if noise and spec.seed == seed and spec.stages]
    noisy = [replace(spec, noise=number) for number in range(1, noise + 1) for spec in found]
    return {spec.default_folder(runs): spec for spec in noisy}


def seeds_of(text: str) -> list[int]:
    """Return the seeds of a list such as 0-2 or 0,3,5."""
    parts = [_RANGE.fullmatch(part.strip()) for part in text.split(",")]
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if len(ranges) < len(parts) or not all(ranges):
        raise UserError(f"--seeds {text!r} is not a list of seeds: expected 0-2 (the lower one first) or 0,3,5.")
    if sum(each.stop - each.start for each in ranges) > MOST_SEEDS:
        raise UserError(f"--seeds {text!r} are more than {MOST_SEEDS} seeds: expected fewer, as in 0-2.")
    return list(dict.fromkeys(seed for each in ranges for seed in each))
