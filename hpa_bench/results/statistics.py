"""Intervals of all that is reported: Wilson's, and the bootstrap over samples, clusters and seeds; numpy only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_bench.metrics import Floats, Ints

REPLICATES = 2000
"""Bootstrap replicates behind an interval."""
_CHUNK = 4_000_000


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
