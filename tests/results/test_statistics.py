"""Intervals against published values and their own coverage."""

import math

import numpy as np
import pytest

from hpa_bench.results.statistics import (
    REPLICATES,
    percentile_interval,
    resampled_means,
    seed_resamples,
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


def test_resamples_are_paired_by_set_and_reproducible():
    scores = np.random.default_rng(0).random((2, 50))

    both = resampled_means(scores, "set")

    np.testing.assert_array_equal(both, resampled_means(scores, "set"))
    np.testing.assert_allclose(both[0], resampled_means(scores[0], "set"), atol=1e-12)
    np.testing.assert_allclose(resampled_means(scores[1] - scores[0], "set"), both[1] - both[0], atol=1e-12)
    assert not np.array_equal(both, resampled_means(scores, "another set"))
    assert both.shape == (2, REPLICATES)


def test_large_sets_are_resampled_in_chunks(monkeypatch):
    monkeypatch.setattr("hpa_bench.results.statistics._CHUNK", 7000)
    scores = np.random.default_rng(0).random(70)

    means = resampled_means(scores, "chunks")

    assert means.shape == (REPLICATES,)
    assert means.std() == pytest.approx(scores.std() / math.sqrt(70), rel=0.1)
    assert np.unique(means).size > REPLICATES * 0.9


def test_clusters_are_drawn_whole():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 3)[rng.permutation(120)]
    own = rng.random(40)

    alike = own[clusters]  # What belongs together is equal: 40 samples, not 120.
    together, alone = resampled_means(alike, "set", clusters), resampled_means(own, "set")
    np.testing.assert_allclose(together, alone, atol=1e-12)
    assert together.std() > 1.5 * resampled_means(alike, "set").std()
    unequal = np.array([0, 0, 1])
    found = resampled_means(np.array([1.0, 1.0, 0.0]), "set", unequal)
    assert set(np.round(found, 6)) == {0, round(2 / 3, 6), 1}


def test_seed_weights_are_shares():
    np.testing.assert_allclose(seed_resamples(3).sum(0), 1)
    np.testing.assert_array_equal(seed_resamples(1), np.ones((1, REPLICATES)))


@pytest.mark.slow
def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    trials = 300
    covered = {"mean": 0, "bwt": 0}
    for trial in range(trials):
        easy = rng.random((2, 80))
        learned, final = (easy + 0.2 * rng.random((2, 80)) < 0.9), (easy + 0.2 * rng.random((2, 80)) < 0.7)
        low, high = percentile_interval(resampled_means(final[0].astype(float), f"mean{trial}"))
        covered["mean"] += low <= 0.6 <= high
        low, high = percentile_interval(resampled_means((final[0] - learned[0].astype(float)), f"bwt{trial}"))
        covered["bwt"] += low <= -0.2 <= high

    assert all(0.90 <= count / trials <= 0.985 for count in covered.values()), covered
