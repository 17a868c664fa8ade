"""Intervals against published values and closed forms; how often they cover: test_coverage.py."""

import math

import numpy as np
import pytest
from scipy import stats

from hpa_bench.results.statistics import (
    Estimate,
    critical_value,
    deviations,
    estimate,
    holm,
    interval,
    means_without,
    p_value,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1.0), (81, 263, 0.25526, 0.36618)],
)
def test_wilson_against_published_values(successes, n, low, high):
    assert wilson(successes, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_wilson_bounds_solve_its_equation():
    z = 1.959963984540054
    for bound in wilson(7, 31):
        assert abs(7 / 31 - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / 31))


def test_wilson_edges():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 50)[0] == 0.0 and wilson(50, 50)[1] == 1.0
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)


def test_deviations_of_a_mean_sum_to_its_variance():
    scores = np.random.default_rng(0).random((2, 50))

    one, other = deviations(means_without(scores))

    np.testing.assert_allclose([one @ one, other @ other], scores.var(1, ddof=1) / 50)
    np.testing.assert_allclose(one @ other, np.cov(scores)[0, 1] / 50)
    np.testing.assert_allclose(deviations(means_without(scores[0] - scores[1])), one - other, atol=1e-12)


def test_clusters_are_left_out_whole():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 3)[rng.permutation(120)]
    own = rng.random(40)

    alike = own[clusters]  # What belongs together is equal: 40 samples, not 120.
    np.testing.assert_allclose(means_without(alike, clusters), means_without(own))
    np.testing.assert_allclose(means_without(np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1])), [0.0, 1.0])


def test_one_unit_has_no_deviation():
    assert deviations(means_without(np.array([[3.0]]))).tolist() == [[0.0]]
    assert deviations(means_without(np.array([1.0, 0.0]), np.array([5, 5]))).tolist() == [0.0]


def test_variance_over_seeds_and_samples_is_that_of_the_two_way_layout():
    scores = np.random.default_rng(1).random((4, 30)) + np.linspace(0, 1, 4)[:, None]

    found = estimate(scores.mean(1), deviations(means_without(scores)))

    # Mean squares of the analysis of variance: seeds, samples, and what is left.
    rows, columns, mean = scores.mean(1), scores.mean(0), scores.mean()
    seeds, samples = 30 * rows.var(ddof=1), 4 * columns.var(ddof=1)
    rest = ((scores - rows[:, None] - columns + mean) ** 2).sum() / (3 * 29)
    assert found.variance == pytest.approx((seeds + max(samples - rest, 0)) / (4 * 30))
    assert found.value == pytest.approx(mean) and found.share == pytest.approx(seeds / 120 / found.variance)


def test_one_seed_has_the_variance_over_samples_alone():
    scores = np.random.default_rng(2).random((1, 30))

    found = estimate(scores.mean(1), deviations(means_without(scores)))

    assert (found.variance, found.share) == (pytest.approx(scores.var(ddof=1) / 30), 0)
    assert critical_value(found) == pytest.approx(stats.t.ppf(0.975, 29))


@pytest.mark.parametrize(
    ("seeds", "low", "high"), [(2, 92.1, 96.7), (3, 94.3, 96.2), (5, 94.9, 95.8), (10, 94.9, 95.5)]
)
def test_quantiles_cover_normal_data_whatever_the_share(seeds, low, high):
    chances = (np.arange(4000) + 0.5) / 4000
    spread = stats.chi2.ppf(chances, seeds - 1) / (seeds - 1)  # The estimated over the true variance of the seeds.
    for share in (0.01, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0):
        variance = share * spread + 1 - share
        found = Estimate(0 * variance, variance, share * spread / variance, seeds, 10_000)

        covered = 100 * np.mean(2 * stats.norm.cdf(critical_value(found) * np.sqrt(variance)) - 1)

        assert low <= covered <= high, share


def test_intervals_of_seeds_alone_are_students():
    found = Estimate(np.array(0.0), np.array(4.0), np.array(1.0), 3, 100)

    low, high = interval(found, (-1e6, 1e6))

    assert (low, high) == (pytest.approx(-4.302653 * 2), pytest.approx(4.302653 * 2))


def test_intervals_reach_further_from_a_limit_than_towards_it_and_never_beyond():
    found = Estimate(np.array([4.0, 96.0, 50.0]), np.full(3, 16.0), np.ones(3), 3, 300)

    low, high = interval(found)

    assert low[0] > 0 and high[0] - 4 > 3 * (4 - low[0])
    np.testing.assert_allclose([low[1], high[1]], [100 - high[0], 100 - low[0]])
    assert high[2] - 50 == pytest.approx(50 - low[2])


def test_a_number_at_its_limit_has_a_plain_interval_and_one_without_variance_is_its_own():
    low, high = interval(Estimate(np.array([0.0, 30.0]), np.array([1.0, 0.0]), np.zeros(2), 1, 1000))

    assert low.tolist() == [0.0, 30.0] and high.tolist() == [pytest.approx(1.9623, abs=1e-3), 30.0]


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_p_values_are_where_intervals_end_at_zero(confidence):
    limits = (-100.0, 100.0)
    value = np.array(20.0)
    found = Estimate(value, np.array(30.0), np.array(0.6), 3, 300)

    _, reached = interval(found._replace(value=-value), limits, 1 - p_value(found, limits))
    _, high = interval(found._replace(value=-value), limits, confidence)

    assert reached == pytest.approx(0, abs=1e-6)
    assert (high < 0) == (p_value(found, limits) < 1 - confidence)


def test_p_values_at_the_ends():
    found = Estimate(np.array(5.0), np.array(1e-9), np.array(0.0), 3, 300)

    assert p_value(found, (-100, 100)) == 0
    assert p_value(found._replace(value=np.array(0.0)), (-100, 100)) == 1
    without = found._replace(variance=np.array(0.0))
    assert p_value(without, (-100, 100)) == pytest.approx(0)
    assert p_value(without._replace(value=np.array(0.0)), (-100, 100)) == 1
    assert p_value(without._replace(units=0), (-100, 100)) == 0, "a number that no sample stands behind"


@pytest.mark.parametrize("value", [100.0, -100.0, 100 / 3])
@pytest.mark.parametrize("units", [1, 2, 5, 6, 20])
def test_a_difference_that_is_the_same_in_every_unit_is_held_to_the_sign_test(value, units):
    limits = (-100.0, 100.0)
    found = Estimate(np.array(value), np.array(0.0), np.array(0.0), 3, units)
    exact = stats.binomtest(units, units).pvalue

    low, high = interval(found, limits)

    assert p_value(found, limits) == pytest.approx(exact)
    assert (low > 0 or high < 0) == (exact < 0.05) and value in (low, high)
    share = stats.binomtest(units, units).proportion_ci(method="exact").low
    assert min(abs(low), abs(high)) == pytest.approx(abs(value * (2 * share - 1))) or (low < 0 < high)
    _, at_zero = interval(found._replace(value=-abs(found.value)), limits, 1 - exact)
    assert at_zero == pytest.approx(0, abs=1e-9)


def test_holm_against_its_definition():
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_holm_keeps_the_chance_of_a_false_difference_among_many():
    rng = np.random.default_rng(4)
    p = rng.random((2000, 22))  # Of 22 methods that are all like the reference.

    assert np.mean([min(holm(row)) < 0.05 for row in p]) == pytest.approx(0.05, abs=0.012)
    assert (p.min(1) < 0.05).mean() > 0.6
