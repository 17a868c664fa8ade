"""What a stage's edit leaves of what training changed: the record of a stage, and its numbers over a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from hpa_bench.metrics import defined_metrics
from hpa_bench.results.measures import ALL, Key, Measure, Series

if TYPE_CHECKING:
    from hpa_bench.results.manifest import Manifest
    from hpa_bench.results.source import StageSource

Place = TypeVar("Place")
KIND = "update"
"""The kind of series that these numbers are; their sets are a stage's tasks, or decoder blocks."""


class Columns(BaseModel):
    """Columns of one linear layer that a method gave back as they were before the stage."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    columns: int
    """Of the layer."""
    kept: int
    common: int
    """Of the kept ones, those that are among as many columns with the largest update."""


class Overlap(NamedTuple):
    """Of the kept columns of some place, in percent, under the names of the metrics."""

    column_overlap: Measure
    """Those that are among as many columns with the largest update."""
    chance_overlap: Measure
    """The same of as many columns drawn blindly."""


class StageUpdate(BaseModel):
    """What is left of one stage's update, W0 before the stage, W1 after training, W^ as it is scored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kept: float | None
    """||W^ - W0|| / ||W1 - W0|| over all weights together; None where training changed nothing."""
    kl: float
    """KL(W1 || W^), nats per answer token."""
    samples: int = 0
    """Calibration samples of `kl`; 0 where W^ is W1, and it is 0 by definition."""
    tokens: int = 0
    """Their answer tokens."""
    blocks: list[dict[str, Columns]] = []
    """Of a method that keeps columns: by decoder block and linear layer, which."""


def update_series(metric: str, place: str = ALL) -> Series:
    """Return where a number of updates stands: of a whole run, of a stage (`of_stage`) or of a block (`of_block`)."""
    return Series(place, KIND, "", metric)


def of_stage(tasks: Sequence[str]) -> str:
    """Return what the update of the stage that trains these tasks is called."""
    return "+".join(tasks)


def of_block(block: int) -> str:
    """Return what the updates of a decoder block are called."""
    return f"block {block}"


def read_update(stage: StageSource) -> StageUpdate | None:
    """Return the record of a stage; None where it was not measured, as by an older version."""
    found = stage.update
    return None if found is None else StageUpdate(**found)


def update_measures(records: Sequence[StageUpdate | None], manifest: Manifest) -> dict[Key, Measure]:
    """Return the numbers of a run's updates: of each stage, and at the last one those of the whole run.

    A run whose stages train no task each has none.

    Args:
        records: of the finished stages from 1 on; None where not measured.
        manifest: what was run.
    """
    found: dict[Key, Measure] = {}
    if "mft" not in defined_metrics(manifest.stages, manifest.tasks):
        return found  # As joint: what its one stage changes is no update of a task.
    for index, (tasks, record) in enumerate(zip(manifest.stages, records, strict=False), 1):
        for metric, value in _values(record):
            found[Key(index, update_series(metric, of_stage(tasks)))] = _measure(value)
    known = [record for record in records if record]
    if known and len(known) == len(manifest.stages):
        by_metric = [dict(_values(record)) for record in known]
        for metric in by_metric[0]:
            if all(metric in values for values in by_metric):
                value = float(np.mean([values[metric] for values in by_metric]))
                found[Key(len(known), update_series(metric))] = _measure(value)
        for place, overlap in _overlaps(known, lambda block, _: [ALL, of_block(block)]).items():
            found |= {Key(len(known), update_series(metric, place)): one for metric, one in overlap._asdict().items()}
    return found


def _values(record: StageUpdate | None) -> Iterator[tuple[str, float]]:
    if record:
        if record.kept is not None:
            yield "update_kept", 100 * record.kept
        yield "update_kl", record.kl


def layer_overlaps(records: Sequence[StageUpdate | None], manifest: Manifest) -> dict[tuple[int, str], Overlap]:
    """Return how far the kept columns are those of the largest update, by decoder block and linear layer.

    Over all stages, as by block (`update_measures`); of a run that has not all of them, nothing.
    """
    known = [record for record in records if record]
    if len(known) != len(manifest.stages):
        return {}
    return _overlaps(known, lambda block, layer: [(block, layer)])


def _overlaps(records: Sequence[StageUpdate], places: Callable[[int, str], Sequence[Place]]) -> dict[Place, Overlap]:
    """Return the overlaps over all stages, by place.

    Args:
        records: of the stages.
        places: those that a linear layer of a decoder block belongs to.
    """
    by_place: dict[Place, list[Columns]] = {}
    for record in records:
        for block, layers in enumerate(record.blocks):
            for layer, columns in layers.items():
                for place in places(block, layer):
                    by_place.setdefault(place, []).append(columns)
    found: dict[Place, Overlap] = {}
    for place, listed in by_place.items():
        if kept := sum(one.kept for one in listed):
            common = sum(one.common for one in listed)
            # Of k columns out of c drawn blindly, k/c are expected among any other k.
            chance = sum(one.kept**2 / one.columns for one in listed)
            found[place] = Overlap(_measure(100 * common / kept), _measure(100 * chance / kept))
    return found


def _measure(value: float) -> Measure:
    # No test sample stands behind it: its interval is over seeds alone.
    return Measure(value, 0, np.zeros(1))
