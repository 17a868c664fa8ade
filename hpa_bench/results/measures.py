"""From the samples of a run's stages to its numbers: joined by id, averaged, resampled, in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpa_bench import metrics
from hpa_bench.metrics import Answers, Floats, Ints
from hpa_bench.results import statistics
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.stage_data import StageData
from hpa_bench.verdict import Vocabulary

ALL = "all"
"""The set of a value that averages over sets, each with the same weight."""


class Series(NamedTuple):
    """What is measured on every sample of a set: `kind` is task, safety or benign; tasks have no judge."""

    set: str
    kind: str
    judge: str
    metric: str


class Key(NamedTuple):
    """One reported number of a run; the continual metrics belong to the last stage."""

    stage: int
    series: Series


@dataclass(frozen=True)
class Measure:
    """A number of one run, in percent, with what its interval needs."""

    value: float
    n: int
    replicates: NDArray[np.float32]
    """The same number on each bootstrap resample of the samples."""
    yes_no: int = 0
    """Where the value is a share of yes/no samples, their number, or that of their clusters (for a mean over sets, the
    smallest set's times the number of sets); else 0."""


class Cell(NamedTuple):
    """A number as reported, in percent: the mean over seeds, its 95% interval and the sd over seeds."""

    value: float
    n: int
    low: float
    high: float
    seeds: int = 1
    sd: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval; of a difference: whether it is told apart from none."""
        return self.low > 0 or self.high < 0


def samples_of(data: Sequence[StageData], manifest: Manifest, judges: Mapping[str, Vocabulary]) -> dict[Series, Floats]:
    """Return per-sample values in percent, [stages, n], for every set, judge and metric."""
    found: dict[Series, Floats] = {}
    if not data:
        return found
    for task in manifest.tasks:
        found[Series(task, "task", "", "accuracy")] = 100 * np.stack([stage.scores[task] for stage in data])
    kinds = dict.fromkeys(manifest.safety_sets, "safety") | dict.fromkeys(manifest.benign_sets, "benign")
    incoherent = {name: np.array([stage.incoherent[name] for stage in data]) for name in kinds}
    for name, kind in kinds.items():
        found[Series(name, kind, "", "incoherent")] = 100.0 * incoherent[name]
    for judge, vocabulary in judges.items():
        for name, kind in kinds.items():
            unjudged = [""] * len(data[0].ids[name])
            verdicts = np.array([stage.verdicts.get((judge, name), unjudged) for stage in data], dtype=object)
            answers = Answers(verdicts, vocabulary.attack_success(verdicts), ~incoherent[name])
            for share in metrics.shares():
                if kind in share.kinds and (share.told_by is None or share.told_by(vocabulary)):
                    values = np.where(verdicts == "", np.nan, 100.0 * share.of(answers))
                    found[Series(name, kind, judge, share.name)] = values
    return found


def measures_of(
    samples: Mapping[Series, Floats],
    tasks: Sequence[str],
    curriculum: Sequence[Sequence[str]] | None,
    clusters: Mapping[str, Ints],
) -> dict[Key, Measure]:
    """Return every number that these samples give.

    Args:
        samples: per-sample values in percent, [finished stages, n].
        tasks: the tasks in training order.
        curriculum: the tasks of each stage; None leaves out what compares stages.
        clusters: by set where samples belong together, the cluster of each (see `StageData`).
    """
    found: dict[Key, Measure] = {}
    over_sets: dict[Series, list[Series]] = {}
    drawn: dict[Series, Floats] = {}
    by_set: dict[str, list[Series]] = {}
    for series in samples:
        by_set.setdefault(series.set, []).append(series)
    for name, listed in by_set.items():  # In one product, which is several times faster than one by one.
        means = statistics.resampled_means(np.stack([samples[one] for one in listed]), name, clusters.get(name))
        drawn |= zip(listed, means, strict=True)
    for series, values in samples.items():
        units = statistics.drawn_units(values.shape[1], clusters.get(series.set))
        yes_no = units if np.isin(values[~np.isnan(values)], (0, 100)).all() else 0
        _add(found, series, values.mean(1), drawn[series], values.shape[1], yes_no)
        over_sets.setdefault(series._replace(set=ALL), []).append(series)
    for series, parts in over_sets.items():
        value = np.mean([samples[part].mean(1) for part in parts], axis=0)
        replicates = np.mean([drawn[part] for part in parts], axis=0)
        sizes = [samples[part].shape[1] for part in parts]
        shares = [found[key].yes_no if (key := Key(0, part)) in found else 0 for part in parts]
        mean = series._replace(metric="masr") if series.metric == "asr" else series
        _add(found, mean, value, replicates, sum(sizes), len(parts) * min(shares))
        if mean.metric == "masr" and curriculum is not None:
            _add(found, mean._replace(metric="dasr"), value - value[0], replicates - replicates[0], sum(sizes))
    accuracy = [Series(task, "task", "", "accuracy") for task in tasks]
    if curriculum is not None and samples and len(samples[accuracy[0]]) == len(curriculum) + 1:
        value = np.stack([samples[series].mean(1) for series in accuracy], axis=-1)
        replicates = np.stack([drawn[series] for series in accuracy], axis=-1)
        point = metrics.run_metrics(value, curriculum, tasks)
        resampled = metrics.run_metrics(replicates.swapaxes(0, 1), curriculum, tasks)
        n = sum(samples[series].shape[1] for series in accuracy)
        for name in metrics.continual_names():
            if not np.isnan(point[name]):
                key = Key(len(curriculum), Series(ALL, "task", "", name))
                found[key] = Measure(float(point[name]), n, resampled[name].astype(np.float32))
    return found


def _add(
    found: dict[Key, Measure], series: Series, values: Floats, replicates: Floats, n: int, yes_no: int = 0
) -> None:
    for stage, value in enumerate(values):
        if not np.isnan(value):
            found[Key(stage, series)] = Measure(float(value), n, replicates[stage].astype(np.float32), yes_no)


def combine(key: Key, seeds: Sequence[Measure]) -> Cell:
    """Return the mean over seeds with its 95% interval.

    A share of yes/no samples in one run gets Wilson's interval, over clusters where there are some; anything else the
    percentile bootstrap, which draws seeds first, then samples. Where the bootstrap of a share has no width, because
    all samples agree, Wilson steps in.
    """
    value = float(np.mean([measure.value for measure in seeds]))
    replicates = np.stack([measure.replicates for measure in seeds])
    weights = statistics.seed_resamples(len(seeds))
    drawn = (replicates * weights).sum(0)
    if np.isnan(drawn).any():  # Kappa is undefined on some resamples: each counts the seeds that define it.
        defined = ~np.isnan(replicates)
        shares = (weights * defined).sum(0)
        drawn = np.where(defined, replicates * weights, 0).sum(0)[shares > 0] / shares[shares > 0]
    low, high = statistics.percentile_interval(drawn)
    yes_no = min(measure.yes_no for measure in seeds)
    if yes_no and (high - low < 1e-4 or (len(seeds) == 1 and key.series.set != ALL)):
        low, high = (100 * bound for bound in statistics.wilson(round(value / 100 * yes_no), yes_no))
    sd = float(np.std([measure.value for measure in seeds], ddof=1)) if len(seeds) > 1 else None
    return Cell(value, seeds[0].n, low, high, len(seeds), sd)
