"""The noise floor: how far runs of one method and seed lie apart that differ in nothing but rounding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from hpa_bench.errors import UserError
from hpa_bench.results.absence import absence
from hpa_bench.results.measures import Key, Series
from hpa_bench.results.runs import Run
from hpa_bench.results.statistics import pooled_sd, sd_interval


class Spread(NamedTuple):
    """How far a number of noise runs spreads, in percentage points."""

    sd: float
    """Between runs of one seed; over several seeds the variances are pooled."""
    low: float
    high: float
    """The limits of its 95% interval."""
    least: float
    most: float
    """The lowest and the highest number, percent."""
    repeats: int

    @property
    def range(self) -> float:
        """The highest number minus the lowest."""
        return self.most - self.least


class NoiseFloor:
    """The noise runs of one method with one config."""

    def __init__(self, label: str, runs: Sequence[Run]) -> None:
        self.label = label
        self.runs = sorted(runs, key=lambda run: (run.seed, run.noise))
        for first, second in pairwise(self.runs):
            if (first.seed, first.noise) == (second.seed, second.noise):
                raise UserError(
                    f"{first.path} and {second.path} are both noise run {first.noise} of {label} with"
                    f" seed {first.seed}: give one of them."
                )

    @property
    def repeats(self) -> str:
        """The number of noise runs, such as "16", or "15 of 16" where one is not complete."""
        complete = sum(not run.missing for run in self.runs)
        return f"{complete}" if complete == len(self.runs) else f"{complete} of {len(self.runs)}"

    def spread(self, series: Series, stage: int | None = None) -> Spread | str:
        """Return how a number spreads after a stage, by default the last; "-" or "missing: reason" where it cannot."""
        key = Key(self.runs[0].last if stage is None else stage, series)
        by_seed: dict[int, list[float]] = {}
        for run in self.runs:
            if (measure := run.measure(key)) is not None:
                by_seed.setdefault(run.seed, []).append(measure.value)
        if not by_seed:
            return absence(self.runs[0], key)
        sd, degrees = pooled_sd(list(by_seed.values()))
        if degrees == 0:
            return "missing: one noise run, expected two or more of a seed"
        found = [value for values in by_seed.values() for value in values]
        return Spread(sd, *sd_interval(sd, degrees), min(found), max(found), len(found))


def floors(runs: Sequence[Run]) -> list[NoiseFloor]:
    """Return the noise floor of each method that has noise runs among these, in the order of their first."""
    by_label: dict[str, list[Run]] = {}
    for run in runs:
        if run.noise:
            by_label.setdefault(run.label, []).append(run)
    return [NoiseFloor(label, members) for label, members in by_label.items()]
