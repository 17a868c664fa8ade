"""The seeds of one method with one config, and the numbers that they have together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from hpa_bench.errors import UserError
from hpa_bench.metrics import Floats
from hpa_bench.results.absence import absence
from hpa_bench.results.measures import Cell, Key, Measure, Series, combine_stages, compare_seeds
from hpa_bench.results.runs import Run, flat

REFERENCES = ("zero_shot", "joint")
"""Methods that no other competes with: the aligned model as it is, and one training on all tasks at once."""
NO_SEED = "missing: no seed in common"


class Group:
    """The seeds of one method, with one config."""

    def __init__(self, label: str, runs: Sequence[Run]) -> None:
        self.label = label
        self.runs = sorted(runs, key=lambda run: run.seed)
        self._cells: dict[Key, Cell | str] = {}
        self._differences: dict[tuple[Group, Series], Cell | str] = {}
        self._finals: dict[Series, dict[int, tuple[Measure, Floats]]] = {}
        for first, second in pairwise(self.runs):
            if first.seed == second.seed:
                raise UserError(
                    f"{first.path} and {second.path} are both {label} with seed {first.seed}: give one of them."
                )

    @property
    def method(self) -> str:
        """The method's name, without its config."""
        return self.runs[0].manifest.method

    @property
    def is_default(self) -> bool:
        """Whether the method runs with its defaults."""
        return self.label == self.method

    @cached_property
    def config(self) -> dict[str, Any]:
        """The method's whole config under dotted names."""
        return flat(self.runs[0].manifest.config)

    def changed(self, default: Group) -> dict[str, Any]:
        """Return the settings that differ from the default's, in the order of the config."""
        return {key: value for key, value in self.config.items() if value != default.config.get(key)}

    @property
    def seeds(self) -> str:
        """The number of runs, such as "3", or "2 of 3" where one is not complete."""
        complete = sum(not run.missing for run in self.runs)
        return f"{complete}" if complete == len(self.runs) else f"{complete} of {len(self.runs)}"

    @property
    def missing(self) -> str:
        """Why the first run that is not complete is not; empty where all are."""
        return next((run.missing for run in self.runs if run.missing), "")

    @property
    def last(self) -> int:
        """The last stage."""
        return self.runs[0].last

    def cell(self, stage: int, series: Series) -> Cell | str:
        """Return a number over the seeds that have it; where none has, "-" or "missing: reason"."""
        key = Key(stage, series)
        if key not in self._cells:  # The page, the tables and the figures ask for the same ones.
            listed = {Key(each, series) for each in range(self.last + 1)} | {key}
            measured = {one: [found for run in self.runs if (found := run.measure(one))] for one in listed}
            self._cells |= combine_stages({one: found for one, found in measured.items() if found})
            self._cells |= {one: absence(self.runs[0], one) for one, found in measured.items() if not found}
        return self._cells[key]

    def final(self, series: Series) -> Cell | str:
        """Return a number after the last stage."""
        return self.cell(self.last, series)

    def difference(self, other: Group, series: Series) -> Cell | str:
        """Return this method's final number minus another's, paired by seed and by sample."""
        if (other, series) not in self._differences:  # Marks, tables, charts and sentences ask for the same ones.
            self._differences[other, series] = self._minus(other, series)
        return self._differences[other, series]

    def _minus(self, other: Group, series: Series) -> Cell | str:
        ours, theirs = _seeds_of(self, series), _seeds_of(other, series)
        shared = [seed for seed in ours if seed in theirs]
        if shared:
            (ones, errors), (others, less) = (zip(*(of[seed] for seed in shared), strict=True) for of in (ours, theirs))
            return compare_seeds(Key(self.last, series), ones, others, np.stack(errors) - np.stack(less))
        absent = [cell for cell in (self.final(series), other.final(series)) if isinstance(cell, str)]
        return absent[0] if absent else NO_SEED


def _seeds_of(group: Group, series: Series) -> dict[int, tuple[Measure, Floats]]:
    """Return by seed a final number and its deviations; kept, since a method is compared with all others."""
    if series not in group._finals:
        listed = [(run.seed, run.measures.get(Key(group.last, series))) for run in group.runs]
        group._finals[series] = {seed: (found, found.deviations) for seed, found in listed if found}
    return group._finals[series]
