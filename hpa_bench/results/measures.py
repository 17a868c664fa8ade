"""From the samples of a run's stages to its numbers and their intervals: joined by id, averaged, in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from hpa_bench import metrics
from hpa_bench.metrics import METRICS, Answers, Floats, Ints
from hpa_bench.results import statistics
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.stage_data import StageData
from hpa_bench.verdict import Vocabulary

ALL = "all"
"""The set of a value that averages over sets, each with the same weight."""


MEANS = {"asr": "masr", "in_form": "mif"}
"""What the mean over sets of a metric is called, where it has a name of its own."""


_UNKNOWN = 255
"""Stands for NaN where samples are 0 or 100."""
MOST = 1000.0
"""Percent: the highest score of a caption, which is CIDEr's."""


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


class SampleErrors:
    """What each unit of a set adds to the sampling error of its means, computed when it is asked for.

    Many runs have many numbers, of which few are compared: their samples take a byte each, their errors would take
    eight.

    Args:
        values: per-sample values in percent, [stages, n].
        clusters: [n], which samples belong together; by default each stands alone.
    """

    __slots__ = ("_clusters", "_values", "_yes_no")

    def __init__(self, values: Floats, clusters: Ints | None = None) -> None:
        unknown = np.isnan(values)
        self._yes_no = bool(((values == 0) | (values == 100) | unknown).all())
        self._values = np.where(unknown, _UNKNOWN, values).astype(np.uint8) if self._yes_no else values
        self._clusters = clusters

    @property
    def units(self) -> int:
        """The number of samples, or of clusters of them."""
        return self._values.shape[1] if self._clusters is None else len(np.unique(self._clusters))

    @property
    def clusters(self) -> Ints | None:
        """The number of each unit, [units]; None where each sample is one."""
        return None if self._clusters is None else np.unique(self._clusters)

    @property
    def yes_no(self) -> int:
        """`units`, where every sample is 0 or 100; else 0."""
        return self.units if self._yes_no else 0

    def at(self, stage: int | Sequence[int]) -> Floats:
        """Return a stage's deviations, [units], see `statistics.deviations`; of several stages, [stages, units]."""
        values = self._values[stage].astype(np.float64)
        return statistics.deviations(statistics.means_without(values, self._clusters))


class MeanErrors:
    """The same of a mean over sets; of its change since stage 0 where `since_start`.

    Samples of two sets may be of one cluster (a request that both make), and are one unit then.
    """

    __slots__ = ("_parts", "_since_start", "_units")

    def __init__(self, parts: Sequence[SampleErrors], since_start: bool = False) -> None:
        self._parts = parts
        self._since_start = since_start
        self._units = _joint_units(parts)

    def at(self, stage: int | Sequence[int]) -> Floats:
        """Return a stage's deviations, those of each set behind one another; of several stages, [stages, units].

        Where sets share clusters, the units are in the order of these.
        """
        found = self._mean(stage)
        return found - self._mean(0) if self._since_start else found

    def _mean(self, stage: int | Sequence[int]) -> Floats:
        found: Floats = np.concatenate([part.at(stage) for part in self._parts], axis=-1) / len(self._parts)
        return found if self._units is None else statistics.sums_of(found, self._units)[0]


def _joint_units(parts: Sequence[SampleErrors]) -> Ints | None:
    """Return which unit each of the parts' units is, [units of all]; None where no two parts share any."""
    numbers = [part.clusters for part in parts]
    known = np.concatenate([each for each in numbers if each is not None] or [np.zeros(0, np.int64)])
    if len(np.unique(known)) == len(known):
        return None
    free = known.max() + 1 + np.cumsum([0, *(part.units for part in parts)])
    alone = (start + np.arange(part.units) for start, part in zip(free, parts, strict=False))
    return np.concatenate([own if each is None else each for own, each in zip(alone, numbers, strict=True)])


@dataclass(slots=True, eq=False)
class Measure:
    """A number of one run, in percent, with what its interval needs."""

    value: float
    n: int
    errors: Floats | tuple[SampleErrors | MeanErrors, int]
    """Its deviations, or where they come from, with the stage."""
    yes_no: int = 0
    """Where the value is a share of yes/no samples, their number, or that of their clusters (for a mean over sets, the
    smallest set's times the number of sets); else 0."""

    @property
    def deviations(self) -> Floats:
        """What each sample (or cluster) of its sets adds to its sampling error, see `statistics.deviations`."""
        if isinstance(self.errors, tuple):
            errors, stage = self.errors
            return errors.at(stage)
        return self.errors


class Cell(NamedTuple):
    """A number as reported, in percent: the mean over seeds, its 95% interval and the sd over seeds.

    Where 0 lies between the limits of a number, as of a difference, `p` is the two-sided p-value of 0, not corrected
    for other numbers.
    """

    value: float
    n: int
    low: float
    high: float
    seeds: int = 1
    sd: float | None = None
    p: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether it has one: a number of one seed that no sample stands behind has none."""
        return self.n > 0 or self.seeds > 1


def samples_of(data: Sequence[StageData], manifest: Manifest, judges: Mapping[str, Vocabulary]) -> dict[Series, Floats]:
    """Return per-sample values in percent, [stages, n], for every set, judge and metric."""
    found: dict[Series, Floats] = {}
    if not data:
        return found
    for task in manifest.tasks:
        scored = [stage for stage in data if task in stage.scores]
        if not scored:
            continue
        unscored = np.full(len(scored[0].ids[task]), np.nan)
        accuracy = [stage.scores.get(task, unscored) for stage in data]
        found[Series(task, "task", "", "accuracy")] = 100 * np.stack(accuracy)
        if all(task in stage.in_form for stage in scored):
            in_form = [np.asarray(stage.in_form.get(task, unscored), dtype=np.float64) for stage in data]
            found[Series(task, "task", "", "in_form")] = 100.0 * np.stack(in_form)
    kinds = dict.fromkeys(manifest.safety_sets, "safety") | dict.fromkeys(manifest.benign_sets, "benign")
    incoherent = {name: np.array([stage.incoherent[name] for stage in data]) for name in kinds}
    for name, kind in kinds.items():
        found[Series(name, kind, "", "incoherent")] = 100.0 * incoherent[name]
    shares = metrics.shares()
    for judge, vocabulary in judges.items():
        for name, kind in kinds.items():
            unjudged = [""] * len(data[0].ids[name])
            verdicts = np.array([stage.verdicts.get((judge, name), unjudged) for stage in data], dtype=object)
            answers = Answers(verdicts, vocabulary.attack_success(verdicts), ~incoherent[name])
            unjudged_at = verdicts == ""
            for share in shares:
                if kind in share.kinds and (share.told_by is None or share.told_by(vocabulary)):
                    values = np.where(unjudged_at, np.nan, 100.0 * share.of(answers))
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
    errors = {series: SampleErrors(values, clusters.get(series.set)) for series, values in samples.items()}
    means_of = {series: statistics.mean(values, 1) for series, values in samples.items()}
    for series, values in samples.items():
        _add(found, series, means_of[series], errors[series], values.shape[1], errors[series].yes_no)
        over_sets.setdefault(series._replace(set=ALL), []).append(series)
    for series, parts in over_sets.items():
        value = np.mean([means_of[part] for part in parts], axis=0)
        shared = MeanErrors([errors[part] for part in parts])
        sizes = [samples[part].shape[1] for part in parts]
        shares = [found[key].yes_no if (key := Key(0, part)) in found else 0 for part in parts]
        mean = series._replace(metric=MEANS.get(series.metric, series.metric))
        _add(found, mean, value, shared, sum(sizes), len(parts) * min(shares))
        if mean.metric == "masr" and curriculum is not None:
            _add(
                found,
                mean._replace(metric="dasr"),
                value - value[0],
                MeanErrors([errors[part] for part in parts], since_start=True),
                sum(sizes),
            )
    accuracy = [Series(task, "task", "", "accuracy") for task in tasks]
    if curriculum is not None and samples and len(samples[accuracy[0]]) == len(curriculum) + 1:
        n = sum(samples[series].shape[1] for series in accuracy)
        without = {series: statistics.means_without(samples[series], clusters.get(series.set)) for series in accuracy}
        means = np.stack([means_of[series] for series in accuracy], axis=-1)
        point = metrics.run_metrics(means, curriculum, tasks)
        fewer = [_with_column(means, index, without[series]) for index, series in enumerate(accuracy)]
        changed = metrics.run_metrics(np.concatenate(fewer), curriculum, tasks)
        ends = np.cumsum([len(each) for each in fewer])[:-1]
        for name in metrics.continual_names():
            if not np.isnan(point[name]):
                key = Key(len(curriculum), Series(ALL, "task", "", name))
                error = np.concatenate([statistics.deviations(task) for task in np.split(changed[name], ends)])
                found[key] = Measure(float(point[name]), n, error)
        if (means > 100).any():
            found |= _capped(means, fewer, n)
    return found


def _capped(means: Floats, changed: Sequence[Floats], n: int) -> dict[Key, Measure]:
    """Return AP with no task above 100 percent, of accuracies [stages, tasks] and of those with a unit left out."""
    value = np.minimum(means[-1], 100).mean()
    errors = [statistics.deviations(np.minimum(each[:, -1], 100).mean(-1)) for each in changed]
    key = Key(len(means) - 1, Series(ALL, "task", "", "ap_capped"))
    return {key: Measure(float(value), n, np.concatenate(errors))}


def _with_column(means: Floats, index: int, without: Floats) -> Floats:
    """Return means [stages, tasks] once for each unit left out of one task, [units, stages, tasks]."""
    changed = np.repeat(means[None], without.shape[1], axis=0)
    changed[..., index] = without.T
    return changed


def _add(
    found: dict[Key, Measure],
    series: Series,
    values: Floats,
    errors: SampleErrors | MeanErrors,
    n: int,
    yes_no: int = 0,
) -> None:
    for stage, value in enumerate(values.tolist()):
        if value == value:  # No NaN.
            found[_key(stage, series)] = Measure(value, n, (errors, stage), yes_no)


@cache
def _key(stage: int, series: Series) -> Key:
    """Return a key, the same object for all runs."""
    return Key(stage, series)


def combine(key: Key, seeds: Sequence[Measure]) -> Cell:
    """Return the mean over seeds with its 95% interval, within the limits of the metric.

    A share of yes/no samples of one set in one run gets Wilson's interval, over clusters where there are some, and so
    does any share that all samples agree on, which has no variance; anything else the interval of
    `statistics.estimate`.
    """
    yes_no = min(measure.yes_no for measure in seeds)
    if _is_share(key, seeds):
        return _wilson(seeds[0].value, seeds, yes_no)
    estimate = _estimate(seeds)
    if yes_no and estimate.variance == 0:
        return _wilson(float(estimate.value), seeds, yes_no)
    return _cell(estimate, seeds, _limits(key, seeds))


def _is_share(key: Key, seeds: Sequence[Measure]) -> bool:
    """Whether a number is the share of yes/no samples of one set in one run."""
    return len(seeds) == 1 and seeds[0].yes_no > 0 and key.series.set != ALL


def _wilson(value: float, seeds: Sequence[Measure], yes_no: int) -> Cell:
    low, high = (100 * bound for bound in statistics.wilson(round(value / 100 * yes_no), yes_no))
    return Cell(value, seeds[0].n, low, high, len(seeds), _sd(seeds))


def combine_stages(seeds: Mapping[Key, Sequence[Measure]]) -> dict[Key, Cell]:
    """Return what `combine` does for the stages of one series, those with an interval of the same kind at once."""
    found: dict[Key, Cell] = {}
    alike: dict[tuple[Any, ...], list[Key]] = {}
    for key, measures in seeds.items():
        if _is_share(key, measures):
            found[key] = combine(key, measures)
        else:
            alike.setdefault((_limits(key, measures), len(measures)), []).append(key)
    for (limits, _), keys in alike.items():
        values = np.array([[measure.value for measure in seeds[key]] for key in keys])
        deviations = np.stack(
            [_deviations(listed) for listed in zip(*(seeds[key] for key in keys), strict=True)], axis=1
        )
        low, high = statistics.interval(estimate := statistics.estimate(values, deviations), limits)
        sds = values.std(-1, ddof=1).tolist() if values.shape[1] > 1 else [None] * len(keys)
        for place, key in enumerate(keys):
            one = estimate.at(place)
            if one.variance == 0 and min(measure.yes_no for measure in seeds[key]):
                found[key] = combine(key, seeds[key])
                continue
            p = statistics.p_value(one, limits) if limits[0] < 0 else None
            ends = float(low[place]), float(high[place])
            found[key] = Cell(float(one.value), seeds[key][0].n, *ends, one.seeds, sds[place], p)
    return found


def _deviations(stages: Sequence[Measure]) -> Floats:
    """Return the deviations of one run's measures, [measures, units], at once where one source has them all."""
    sources = {id(errors[0]): errors[0] for one in stages if isinstance(errors := one.errors, tuple)}
    if len(sources) == 1 and all(isinstance(one.errors, tuple) for one in stages):
        (source,) = sources.values()
        return source.at([one.errors[1] for one in stages])
    return np.stack([one.deviations for one in stages])


def compare(key: Key, pairs: Sequence[tuple[Measure, Measure]]) -> Cell:
    """Return the mean over seeds of one number minus another, paired by seed and by sample, with its 95% interval."""
    ones, others = zip(*pairs, strict=True)
    return compare_seeds(key, ones, others, _stacked(ones) - _stacked(others))


def compare_seeds(key: Key, ones: Sequence[Measure], others: Sequence[Measure], errors: Floats) -> Cell:
    """Return what `compare` does.

    Args:
        key: the number's.
        ones: one a seed.
        others: what is taken from each.
        errors: the deviations of the former minus those of the latter, [seeds, units].
    """
    low, high = _limits(key, [*ones, *others])
    values = np.array([one.value - other.value for one, other in zip(ones, others, strict=True)])
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return _cell_of(statistics.estimate(values, errors), ones[0].n, sd, (low - high, high - low))


def _limits(key: Key, seeds: Sequence[Measure]) -> tuple[float, float]:
    """Return what the numbers of a metric lie between; CIDEr, and what averages it, may pass 100 percent."""
    low, high = METRICS[key.series.metric].limits
    if all(abs(measure.value) <= high for measure in seeds):
        return low, high
    return (0.0 if low == 0 else -MOST), MOST


def _estimate(seeds: Sequence[Measure]) -> statistics.Estimate:
    return statistics.estimate(np.array([measure.value for measure in seeds]), _stacked(seeds))


def _stacked(seeds: Sequence[Measure]) -> Floats:
    return np.stack([measure.deviations for measure in seeds])


def _cell(estimate: statistics.Estimate, seeds: Sequence[Measure], limits: tuple[float, float]) -> Cell:
    return _cell_of(estimate, seeds[0].n, _sd(seeds), limits)


def _cell_of(estimate: statistics.Estimate, n: int, sd: float | None, limits: tuple[float, float]) -> Cell:
    low, high = (float(bound) for bound in statistics.interval(estimate, limits))
    p = statistics.p_value(estimate, limits) if limits[0] < 0 else None
    return Cell(float(estimate.value), n, low, high, estimate.seeds, sd, p)


def _sd(seeds: Sequence[Measure]) -> float | None:
    return float(np.std([measure.value for measure in seeds], ddof=1)) if len(seeds) > 1 else None
