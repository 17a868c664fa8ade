"""Continual-learning metrics and the intervals of everything that is reported; numpy only.

docs/metrics.md has every formula with its source. Functions keep the unit of what they are given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONTINUAL = ("ap", "bwt", "bwt_over_t", "mft", "mfn", "maa", "forgetting", "fwt")
"""Names of the metrics of an accuracy matrix."""
REPLICATES = 2000
"""Bootstrap replicates behind an interval."""
_CHUNK = 4_000_000


def continual_metrics(R: ArrayLike) -> dict[str, float | None]:  # noqa: N803 - the papers' name
    """Return the continual-learning metrics of an accuracy matrix.

    Args:
        R: [T+1, T]; R[t][i] is the score of task i after t tasks, row 0 before tuning; NaN where not measured.

    Returns:
        ap, bwt (over T-1, as HPA and GEM), bwt_over_t (over T, as CoIN and SEFE), mft, mfn, maa, forgetting and fwt
        in R's unit; None where undefined or where an entry that it needs was not measured.

    Raises:
        ValueError: R has another shape, or an infinite entry.
    """
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] + 1 or not matrix.shape[1]:
        raise ValueError(f"R must be [T+1, T], row 0 before tuning, not {list(matrix.shape)}.")
    if np.isinf(matrix).any():
        raise ValueError("R has an infinite entry; use NaN where a score was not measured.")
    return {name: None if np.isnan(value) else float(value) for name, value in _metrics(matrix).items()}


def _metrics(matrix: Floats) -> dict[str, Floats]:
    """Return each metric of matrices [..., T+1, T]; NaN where undefined."""
    tasks = matrix.shape[-1]
    last = matrix[..., -1, :]
    learned = np.diagonal(matrix[..., 1:, :], axis1=-2, axis2=-1)
    # Rows 1..T as far as measured: evaluations of seen tasks alone are enough. Without the diagonal (joint) the
    # maximum would be the last row itself, and forgetting a meaningless 0.
    best = np.where(np.isnan(learned), np.nan, np.fmax.reduce(matrix[..., 1:, :], axis=-2))
    before_learning = np.diagonal(matrix[..., 1:-1, 1:], axis1=-2, axis2=-1)
    seen = np.stack([matrix[..., t, :t].mean(-1) for t in range(1, tasks + 1)], axis=-1)
    return {
        "ap": _mean(last),
        "bwt": _mean((last - learned)[..., :-1]),
        "bwt_over_t": _mean(last - learned),
        "mft": _mean(learned),
        "mfn": _mean(last),
        "maa": _mean(seen),
        "forgetting": _mean((best - last)[..., :-1]),
        "fwt": _mean(before_learning - matrix[..., 0, 1:]),
    }


def _mean(values: Floats) -> Floats:
    mean: Floats = values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan)
    return mean


def accuracy_matrix(scores: Floats, curriculum: Sequence[Sequence[str]], tasks: Sequence[str]) -> Floats:
    """Lay a run's stages out as the accuracy matrix: the one place that says what joint and zero-shot mean.

    Stage s fills row t, the number of tasks trained by then; the curriculum's last stage also fills row T, since its
    model is the final one. So joint, one stage of all tasks, has rows 0 and T alone, and zero-shot, no stage at all,
    has its only model in both: AP is defined, and what needs a row between is not.

    Args:
        scores: [..., finished stages, tasks], stage 0 first.
        curriculum: the tasks of each stage 1, 2, ..., finished or not.
        tasks: the names of the last axis of `scores`.

    Returns:
        [..., T+1, T], tasks in the order of training; NaN in rows that no finished stage fills.
    """
    trained = list(dict.fromkeys(task for stage in curriculum for task in stage))
    order = [tasks.index(task) for task in [*trained, *(task for task in tasks if task not in trained)]]
    matrix = np.full((*scores.shape[:-2], len(tasks) + 1, len(tasks)), np.nan)
    for stage in range(scores.shape[-2]):
        row = scores[..., stage, :][..., order]
        matrix[..., len({task for group in curriculum[:stage] for task in group}), :] = row
        if stage == len(curriculum):
            matrix[..., -1, :] = row
    return matrix


def run_metrics(scores: Floats, curriculum: Sequence[Sequence[str]], tasks: Sequence[str]) -> dict[str, Floats]:
    """Return each continual metric of stage scores [..., finished stages, tasks]; NaN where undefined or missing."""
    metrics = _metrics(accuracy_matrix(scores, curriculum, tasks))
    if not curriculum:  # With one task, zero-shot's row T would pass for the score after training it.
        metrics |= {name: np.full_like(value, np.nan) for name, value in metrics.items() if name not in ("ap", "mfn")}
    return metrics


def defined_metrics(curriculum: Sequence[Sequence[str]], tasks: Sequence[str]) -> frozenset[str]:
    """Return the continual metrics that a finished run of this curriculum has."""
    metrics = run_metrics(np.zeros((len(curriculum) + 1, len(tasks))), curriculum, tasks)
    return frozenset(name for name, value in metrics.items() if not np.isnan(value))


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a rate, as fractions; (0, 1) for n = 0.

    Raises:
        ValueError: successes are not within 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}.")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # At the ends the bound is exact; rounding would leave it 1e-17 away.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def resampled_means(scores: Floats, name: str, clusters: Ints | None = None) -> Floats:
    """Return the mean of each bootstrap resample of the last axis.

    The resamples depend on `name` and on the number of samples (or of clusters) alone. Arrays of one set, samples in
    one order, are therefore resampled together, whatever stage, seed or method they come from: their differences are
    paired.

    Args:
        scores: [..., n].
        name: the set, such as "tiny_ad".
        clusters: [n], by equal numbers, which samples belong together and are drawn together; by default each alone.

    Returns:
        [..., REPLICATES].
    """
    n = scores.shape[-1]
    rows, sizes = scores.reshape(-1, n), np.ones(n)
    if clusters is not None:
        order = np.argsort(clusters, kind="stable")
        _, starts, counted = np.unique(clusters[order], return_index=True, return_counts=True)
        sizes = counted.astype(np.float64)
        rows = np.add.reduceat(rows[:, order], starts, axis=1)
    # Counts, divided last: sums of 0s and 100s are exact, so that no machine rounds them differently.
    drawn = [(rows @ counts, sizes @ counts) for counts in _resamples(name, len(sizes))]
    sums, numbers = (np.concatenate(parts, axis=-1) for parts in zip(*drawn, strict=True))
    return np.asarray(sums / numbers).reshape(*scores.shape[:-1], -1)


def drawn_units(n: int, clusters: Ints | None) -> int:
    """Return how many units a resample of n samples draws: the clusters, or each sample alone."""
    return n if clusters is None else len(np.unique(clusters))


def seed_resamples(seeds: int) -> Floats:
    """Return how much each seed weighs in each replicate, [seeds, REPLICATES]; columns sum to 1."""
    return np.concatenate(list(_resamples("seeds", seeds)), axis=-1) / seeds


def _resamples(name: str, n: int) -> Iterator[Floats]:
    size = max(1, min(REPLICATES, _CHUNK // max(n, 1)))
    for start in range(0, REPLICATES, size):
        yield _counts(name, n, start, min(size, REPLICATES - start))


@lru_cache(maxsize=16)
def _counts(name: str, n: int, start: int, count: int) -> Floats:
    seed = np.frombuffer(hashlib.sha256(f"{name}/{n}/{start}".encode()).digest(), dtype="<u4")
    drawn = np.random.default_rng(seed).integers(n, size=(count, n)) + n * np.arange(count)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).T.astype(np.float64)
    counts.flags.writeable = False
    return counts


def percentile_interval(replicates: NDArray[Any], confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap replicates."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(replicates, [tail, 100 - tail])
    return float(low), float(high)
