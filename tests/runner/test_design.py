"""The trials of a method: the defaults first, then points that spread, that hold and that the Config takes."""

from math import log10

from hpa_bench.method import methods
from hpa_bench.runner.design import trial_seeds, trial_settings


def test_the_defaults_come_first_and_each_trial_is_another() -> None:
    found = trial_settings(methods.get("l2"), {}, 8)

    assert found[0] == {} and len(found) == 8
    values = sorted(one["strength"] for one in found[1:])
    assert len(set(values)) == 7 and values[0] >= 0.001 and values[-1] <= 10
    # A Sobol sequence has one point in each eighth, so that 7 of 8 leave one empty at most.
    assert len({int(2 * (log10(value) + 3)) for value in values}) >= 6


def test_more_trials_add_to_fewer() -> None:
    assert trial_settings(methods.get("derpp"), {}, 16)[:8] == trial_settings(methods.get("derpp"), {}, 8)


def test_a_point_that_the_config_refuses_is_passed_over() -> None:
    found = trial_settings(methods.get("hpa"), {}, 32)

    assert len(found) == 32
    assert all(one["p_min"] <= one["p_max"] for one in found[1:])


def test_a_small_space_is_tried_out_once() -> None:
    found = trial_settings(methods.get("moelora"), {}, 20)

    assert found[0] == {}
    assert sorted(one["experts"] for one in found[1:]) == [1, 2, 4, 16]


def test_settings_of_its_own_stay_and_are_no_trial_again() -> None:
    found = trial_settings(methods.get("moelora"), {"experts": 2}, 20)

    assert sorted(one["experts"] for one in found[1:]) == [1, 4, 8, 16]


def test_seeds_are_no_reports_seeds() -> None:
    seeds = trial_seeds(1000)

    assert len(set(seeds)) == 1000 and min(seeds) > 1000
    assert trial_seeds(8) == seeds[:8]
