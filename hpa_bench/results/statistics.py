"""Intervals of all that is reported: over test samples, over seeds and samples, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, expit, logit, ndtri, stdtrit

from hpa_bench.metrics import Floats, Ints

CONFIDENCE = 0.95
_SHARPNESS = 1.5
"""How fast the t quantile of the seeds gives way to that of the samples; see `critical_value`."""
_FLOOR = 0.25
"""The least share of the variance over test samples that is left where seeds are equal by chance; so small that it
changes no coverage."""
_LEAST_P = 1e-12


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson score interval of a rate, as fractions; (0, 1) for n = 0.

    Raises:
        ValueError: successes are not within 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}.")
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + confidence / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # At the ends the bound is exact; rounding would leave it 1e-17 away.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def mean(values: Floats, axis: int) -> Floats:
    """Return the mean over an axis, digit for digit that of numpy's own, which takes longer of small arrays."""
    found: Floats = np.add.reduce(values, axis=axis) / values.shape[axis]
    return found


def means_without(scores: Floats, clusters: Ints | None = None) -> Floats:
    """Return the mean over the last axis without each unit in turn.

    Args:
        scores: [..., n].
        clusters: [n], by equal numbers, which samples belong together and are one unit; by default each alone.

    Returns:
        [..., units]; of a single unit the mean with it, since there is none without.
    """
    sums, sizes = scores, np.ones(scores.shape[-1])
    if clusters is not None:
        sums, sizes = sums_of(scores, clusters)
    if len(sizes) == 1:
        return sums / sizes
    left: Floats = (np.add.reduce(sums, axis=-1, keepdims=True) - sums) / (sizes.sum() - sizes)
    return left


def sums_of(values: Floats, clusters: Ints) -> tuple[Floats, Floats]:
    """Return the sums over what belongs together, in the order of the clusters' numbers, and how many are in each.

    Args:
        values: [..., n].
        clusters: [n], by equal numbers, what belongs together.

    Returns:
        [..., clusters] and [clusters].
    """
    order = np.argsort(clusters, kind="stable")
    _, starts, counted = np.unique(clusters[order], return_index=True, return_counts=True)
    sums: Floats = np.add.reduceat(values[..., order], starts, axis=-1)
    return sums, counted.astype(np.float64)


def deviations(without: Floats) -> Floats:
    """Return what each unit adds to a number's sampling error, from the number without each unit (the jackknife).

    The squares of a number's deviations sum to its variance over test samples; of a mean that is exactly s^2/n. The
    products of two numbers' deviations, over the same units, sum to their covariance, so that the deviations of a
    difference are the difference of the deviations.

    Args:
        without: [..., units], see `means_without`.

    Returns:
        [..., units].

    Source: Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9 (1981).
    """
    units = without.shape[-1]
    scaled: Floats = math.sqrt((units - 1) / units) * (mean(without, -1)[..., None] - without)
    return scaled


class Estimate(NamedTuple):
    """A mean over seeds and what is known of its error; arrays of one shape, or numbers."""

    value: Floats
    variance: Floats
    share: Floats
    """How much of the variance was estimated from the spread of the seeds, from 0 to 1."""
    seeds: int
    units: int

    def at(self, place: int) -> Estimate:
        """Return one of several."""
        return self._replace(value=self.value[place], variance=self.variance[place], share=self.share[place])


def estimate(values: Floats, deviations: Floats) -> Estimate:
    """Return the mean over seeds with its variance over both other seeds and other test samples.

    Seeds are tested on the same samples. So the variance is that of the seeds, whose spread holds the part of the
    sampling error that is each seed's own, plus the part that they share.

    Args:
        values: [..., seeds].
        deviations: [..., seeds, units], see `deviations`.

    Source: Obuchowski and Rockette, Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests,
        Communications in Statistics B 24 (1995), with seeds for readers.
    """
    seeds, units = deviations.shape[-2:]
    same_seeds = np.add.reduce(mean(deviations, -2) ** 2, axis=-1)
    if seeds == 1:
        return Estimate(values[..., 0], same_seeds, np.zeros_like(same_seeds), seeds, units)
    one_seed = mean(np.add.reduce(deviations**2, axis=-1), -1)
    shared = np.maximum((seeds * same_seeds - one_seed) / (seeds - 1), 0)
    between = values.var(-1, ddof=1) / seeds
    variance = np.maximum(between + shared, _FLOOR * same_seeds)
    share = np.divide(between, variance, out=np.zeros_like(variance), where=variance > 0)
    return Estimate(mean(values, -1), variance, share, seeds, units)


def critical_value(found: Estimate, p: float = 1 - CONFIDENCE) -> Floats:
    """Return how many standard errors a number is off with a two-sided probability of p.

    A variance that mixes one of few degrees of freedom, of the seeds, with one of many, of the samples, has no exact
    quantile. Of the two usual ones, Satterthwaite's degrees of freedom cover 92.2 to 95% with 3 seeds, Cochran and
    Cox's mean of the two t quantiles by variance 95 to 97.1%; by the share to the power of 1.5, as here, 94.3 to 96.0%
    (for normal data, whatever the share; with 2 seeds 92.1 to 96.5%).

    Source: Cochran and Cox, Experimental Designs (1957), section 4.14.
    """
    samples = -stdtrit(max(found.units - 1, 1), p / 2)
    seeds = -stdtrit(max(found.seeds - 1, 1), p / 2)
    quantile: Floats = samples + (seeds - samples) * found.share**_SHARPNESS
    return quantile


def interval(
    found: Estimate, limits: tuple[float, float] = (0.0, 100.0), confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Return the interval of a number that lies within limits, from the t quantile on the logit scale.

    On that scale an interval near a limit reaches further from it than towards it, as the skew of such numbers asks
    for, and never beyond; far from the limits it is the plain one. A difference that is the same in every unit, which
    leaves no variance to see, gets that of the sign test: with few units it reaches over 0.

    Source: of the latter, Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 26 (1934).
    """
    low, high = limits
    value = np.asarray(found.value, dtype=np.float64)
    error = critical_value(found, 1 - confidence) * np.sqrt(found.variance)
    x = (value - low) / (high - low)
    inner = np.clip(x, 1e-9, 1 - 1e-9)
    half = error / (high - low) / (inner * (1 - inner))
    # A number at its limit, such as a forgetting of 0, has no logit; one without error is its own interval.
    plain = (x <= 0) | (x >= 1) | (error == 0)
    lower = np.where(plain, np.clip(value - error, low, high), low + (high - low) * expit(logit(inner) - half))
    upper = np.where(plain, np.clip(value + error, low, high), low + (high - low) * expit(logit(inner) + half))
    if low < 0 and found.units:
        least = value * (2 * (0.5 - confidence / 2) ** (1 / found.units) - 1)
        lower = np.where(error == 0, np.minimum(value, least), lower)
        upper = np.where(error == 0, np.maximum(value, least), upper)
    return lower, upper


def p_value(found: Estimate, limits: tuple[float, float]) -> float:
    """Return the two-sided p-value of 0: one minus the confidence at which `interval` ends there."""
    low, high = limits
    if not found.variance:
        if found.value == 0:
            return 1.0
        return min(1.0, 2 * 0.5**found.units) if found.units else 0.0
    x = min(max((float(found.value) - low) / (high - low), 1e-9), 1 - 1e-9)
    away = abs(logit(x) - logit(-low / (high - low))) * x * (1 - x) * (high - low) / math.sqrt(found.variance)
    if away >= critical_value(found, _LEAST_P):
        return 0.0
    return float(brentq(lambda p: float(critical_value(found, p)) - away, _LEAST_P, 1.0))


def pooled_sd(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the sd within groups, their variances weighted by degrees of freedom, and how many these are."""
    degrees = sum(len(values) - 1 for values in groups)
    squares = sum(float(np.sum((np.asarray(values) - np.mean(values)) ** 2)) for values in groups)
    return math.sqrt(squares / degrees) if degrees else 0.0, degrees


def sd_interval(sd: float, degrees: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of an sd with so many degrees of freedom, from the chi-squared quantiles (normal data)."""
    tail = (1 - confidence) / 2
    low, high = (sd * math.sqrt(degrees / float(chdtri(degrees, upper))) for upper in (tail, 1 - tail))
    return low, high


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected so that the chance of any false one among them stays at its level.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    corrected, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = least
    return corrected
