"""How often 95% intervals hold the truth, over simulated runs with test sets as large as the suite tiny's."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from hpa_bench.metrics import Floats
from hpa_bench.results.statistics import deviations, estimate, interval, means_without

REPETITIONS = 2000
SETS = {"AP": [150] * 6, "MASR": [100] * 3, "over-refusal": [100]}
MEANS, SDS, SEEDS = (4, 50, 96), (2, 4, 8, 12), (3, 5, 10)
MEETS = (93, 97)
_AT_ONCE = 500

Scores = Callable[[Floats], Floats]
"""From uniform numbers to the scores of as many seeds, each over all samples of its kind, in percent."""


def beta(mean: float, sd: float) -> Scores:
    """Scores of seeds whose distribution over seeds is a beta distribution."""
    a = mean / 100 * (mean * (100 - mean) / sd**2 - 1)
    return lambda uniform: 100 * stats.beta.ppf(uniform, a, a * (100 - mean) / mean)


def clipped(mean: float, sd: float) -> tuple[Scores, float]:
    """Normal scores of seeds, of which those beyond 0 and 100 lie there; and the mean that they then have."""
    low, high = -mean / sd, (100 - mean) / sd
    inside = stats.norm.cdf(high) - stats.norm.cdf(low)
    truth = mean * inside + sd * (stats.norm.pdf(low) - stats.norm.pdf(high)) + 100 * stats.norm.sf(high)
    return (lambda uniform: np.clip(mean + sd * ndtri(uniform), 0, 100)), truth


def answered(rng: np.random.Generator, rates: Floats, ease: Floats) -> Floats:
    """Which samples each seed answers, [repetitions, seeds, n] in percent; a sample is as easy for all seeds."""
    own = rng.standard_normal((*rates.shape, ease.shape[-1]), dtype=np.float32)
    reached = np.sqrt(2) * ndtri(np.clip(rates / 100, 1e-9, 1 - 1e-9))
    return np.float32(100) * (own + ease < reached[..., None].astype(np.float32))


def measured(samples: Floats, sizes: Sequence[int]) -> tuple[Floats, Floats]:
    """The mean over sets of each run, [repetitions, seeds], and its deviations."""
    parts = np.split(samples, np.cumsum(sizes)[:-1], axis=-1)
    values = np.mean([part.mean(-1) for part in parts], axis=0, dtype=np.float64)
    errors = [deviations(means_without(part)).astype(np.float32) for part in parts]
    return values, np.concatenate(errors, axis=-1) / np.float32(len(sizes))


def coverage(scores: Scores, truth: float, seeds: int, sizes: Sequence[int], minus: Scores | None = None) -> float:
    """How often the interval of a mean, or of its difference to another method's, holds the truth, in percent."""
    rng = np.random.default_rng(20251120)
    covered = 0
    for _ in range(REPETITIONS // _AT_ONCE):
        ease = rng.standard_normal((_AT_ONCE, 1, sum(sizes)), dtype=np.float32)
        # What a seed does to one method, such as the order of the data, it does in part to another.
        same, own, others = rng.standard_normal((3, _AT_ONCE, seeds))
        values, errors = measured(answered(rng, scores(stats.norm.cdf((same + own) / 2**0.5)), ease), sizes)
        limits = (0.0, 100.0)
        if minus:
            theirs = measured(answered(rng, minus(stats.norm.cdf((same + others) / 2**0.5)), ease), sizes)
            values, errors, limits = values - theirs[0], errors - theirs[1], (-100.0, 100.0)
        low, high = interval(estimate(values, errors), limits)
        assert (low >= limits[0]).all() and (high <= limits[1]).all()
        covered += int(((low <= truth) & (truth <= high)).sum())
    return 100 * covered / REPETITIONS


def missed(found: dict[tuple[float, float], float], low: float, high: float) -> dict[tuple[float, float], float]:
    return {cell: share for cell, share in found.items() if not low <= share <= high}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("score", SETS)
def test_intervals_over_seeds_cover(score: str, seeds: int) -> None:
    found = {
        (mean, sd): coverage(beta(mean, sd), mean, seeds, SETS[score])
        for mean in MEANS
        for sd in SDS
        if sd <= min(mean, 100 - mean)
    }

    assert len(found) == 8 and not missed(found, *MEETS)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
def test_where_seeds_vary_by_more_than_their_distance_to_a_limit_coverage_is_what_the_docs_say(seeds: int) -> None:
    for sd, low, high in ((8, 82, 92), (12, 56, 81)):
        found = {
            (mean, len(sizes)): coverage(beta(mean, sd), mean, seeds, sizes)
            for mean in (4, 96)
            for sizes in (SETS["MASR"], SETS["over-refusal"])
        }
        assert not missed(found, low, high)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
def test_intervals_cover_scores_that_are_cut_off_at_a_limit(seeds: int) -> None:
    cells = {(mean, sd): clipped(mean, sd) for mean in MEANS for sd in SDS}
    found = {cell: coverage(scores, truth, seeds, SETS["MASR"]) for cell, (scores, truth) in cells.items()}

    wild = {(mean, sd): found.pop((mean, sd)) for mean in (4, 96) for sd in (8, 12)} if seeds == 3 else {}
    assert not missed(found, 93, 97.5) and not missed(wild, 90, 94)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("score", ["MASR", "over-refusal"])
def test_intervals_of_paired_differences_cover(score: str, seeds: int) -> None:
    found = {
        (mean, sd): coverage(beta(mean, sd), mean - 50, seeds, SETS[score], minus=beta(50, sd))
        for mean in MEANS
        for sd in SDS
    }

    assert not missed(found, *MEETS)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
def test_intervals_of_a_change_since_the_aligned_model_cover(seeds: int) -> None:
    cells = [(6, 2), (8, 4), (20, 4), (50, 12), (80, 8), (92, 4)]
    found = {
        (mean, sd): coverage(
            beta(mean, sd), mean - 4, seeds, SETS["MASR"], minus=lambda uniform: np.full_like(uniform, 4)
        )
        for mean, sd in cells
    }

    assert not missed(found, *MEETS)


@pytest.mark.slow
@pytest.mark.parametrize("mean", [4, 96])
@pytest.mark.parametrize("seeds", SEEDS)
def test_differences_of_two_methods_at_a_limit_are_told_apart_too_seldom_not_too_often(seeds: int, mean: int) -> None:
    found = {(mean, sd): coverage(beta(mean, sd), 0, seeds, SETS["MASR"], minus=beta(mean, sd)) for sd in SDS}

    assert not missed(found, 93, 100) and not missed({cell: found[cell] for cell in found if cell[1] < 8}, 93, 98)
