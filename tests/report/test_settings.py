"""Which settings stand in the main table, in a section of their own, in a sweep, and with the tuned ones alone."""

import pytest

from hpa_bench.report import tables
from hpa_bench.report.conditions import conditions
from hpa_bench.report.plasticity import sweeps
from hpa_bench.report.tuned import sides
from hpa_bench.results.runs import read_runs
from hpa_bench.results.tuned import TunedMethod
from tests.support.reports import HPA, condition_of, setting
from tests.support.run_folders import write_run
from tests.support.tuned import tuned

RATES = ((7.5, 2.5), (15.0, 5.0), (30.0, 10.0), (60.0, 20.0))
RANDOM = HPA | {"match": "columns"}
WISE = {"a": 0.5}


def rates(p_max, p_min):
    return {"p_max": p_max, "p_min": p_min}


def made(root, method, defaults, seeds=1, **changed):
    return [
        write_run(root, method, seed, config=defaults | changed, changed=changed, finished=0, n=10)
        for seed in range(seeds)
    ]


def swept(root, method, defaults=HPA, **changed):
    return [
        run for at in RATES for run in made(root, method, defaults, **changed, **({} if at == RATES[1] else rates(*at)))
    ]


def chose(config, **settings):
    return TunedMethod(config=config, space={}, trials=[], chosen=settings, git_commits=[], numerics=[])


def labels(groups):
    return [group.label for group in groups]


def main_of(runs, **methods):
    (condition,) = conditions(read_runs(runs), tuned(**methods) if methods else None)
    return labels(condition.main)


def test_few_settings_stay_in_the_main_table(tmp_path):
    runs = [setting(tmp_path), setting(tmp_path, p_max=20.0), setting(tmp_path, orthogonal=False)]
    condition = condition_of(runs)

    assert condition.settings == {}
    assert labels(condition.main) == ["hpa", "hpa (orthogonal=False)", "hpa (p_max=20.0)"]


def test_many_settings_have_a_section_of_their_own(tmp_path):
    changes = [{"orthogonal": False}, {"p_max": 20.0}, {"p_max": 5.0}, {"selection": "none"}]
    runs = [setting(tmp_path), *(setting(tmp_path, **changed) for changed in changes)]
    for match in ("columns", "norm"):
        changed = {} if match == "columns" else {"match": match}
        runs.append(write_run(tmp_path, "random_columns", config={"match": match}, changed=changed))
    condition = condition_of(runs)

    assert labels(condition.main) == ["hpa", "random_columns", "random_columns (match=norm)"]
    expected = ["hpa", "hpa (p_max=5.0)", "hpa (p_max=20.0)", "hpa (selection=none)", "hpa (orthogonal=False)"]
    assert labels(condition.settings["hpa"]) == expected


def test_settings_without_a_default_stay_in_the_main_table(tmp_path):
    runs = [setting(tmp_path, p_max=rate) for rate in (5.0, 20.0, 30.0, 40.0)]
    condition = condition_of(runs)

    assert condition.settings == {} and len(condition.main) == 4


@pytest.mark.slow
def test_what_a_sweep_stands_on_stays_in_the_main_table(tmp_path):
    runs = swept(tmp_path, "hpa") + made(tmp_path, "hpa", HPA, orthogonal=False)
    runs += made(tmp_path, "random_columns", RANDOM) + swept(tmp_path, "random_columns", RANDOM, match="norm")
    runs += made(tmp_path, "safe_delta", {"s": 0.1}) + made(tmp_path, "safe_delta", {"s": 0.1}, s=1000.0)
    condition = condition_of(runs)

    assert labels(condition.main) == [
        "hpa",
        "random_columns",
        "random_columns (match=norm)",
        "safe_delta",
        "safe_delta (s=1000.0)",
    ]
    # Its place among the settings of its method it keeps: there it is compared with the default.
    assert list(condition.settings) == ["hpa", "random_columns"]
    assert "random_columns (match=norm)" in labels(condition.settings["random_columns"])


def test_tuned_settings_are_no_rows_beside_what_was_not_tuned(tmp_path):
    runs = made(tmp_path, "seqft", {}) + made(tmp_path, "l2", {"strength": 0.1})
    runs += made(tmp_path, "l2", {"strength": 0.1}, strength=0.7)

    assert main_of(runs) == ["seqft", "l2", "l2 (strength=0.7)"]
    assert main_of(runs, l2=chose({"strength": 0.1}, strength=0.7)) == ["seqft", "l2"]
    assert main_of(runs, l2=chose({"strength": 0.1})) == ["seqft", "l2", "l2 (strength=0.7)"]
    assert main_of(runs[-1:], l2=chose({"strength": 0.1}, strength=0.7)) == ["l2 (strength=0.7)"]
    # A method's plain default, and what another entry of the file begins with, were not looked for.
    again = {"l2:strength=0.7": chose({"strength": 0.7}, strength=0.1), "l2": chose({"strength": 0.1}, strength=0.7)}
    assert main_of(runs, **again) == ["seqft", "l2", "l2 (strength=0.7)"]


@pytest.mark.slow
def test_holms_family_has_no_tuned_setting(tmp_path):
    runs = [write_run(tmp_path, name, seed) for name in ("seqft", "hpa", "replay") for seed in (0, 1)]
    runs += [setting(tmp_path, seed, p_max=33.3) for seed in (0, 1)]
    said = tuned(hpa=chose({}, **HPA | {"p_max": 33.3}))
    (plain,), (apart,) = (conditions(read_runs(runs[:count]), said) for count in (6, 8))

    assert tables.differences(apart) == tables.differences(plain)
    (tuned_side,) = [side for side in sides(apart) if side.setting.startswith("tuned")]
    assert tuned_side.group and tuned_side.group.label not in labels(apart.main)


@pytest.mark.slow
def test_tuned_settings_are_no_strengths_of_a_sweep(tmp_path):
    runs = [write_run(tmp_path, "wise_ft", config={"a": a}, changed={} if a == 0.5 else {"a": a}) for a in (0.25, 0.5)]
    runs += [write_run(tmp_path, "wise_ft", config={"a": a}, changed={"a": a}) for a in (0.75, 0.33)]
    (found,) = conditions(read_runs(runs), tuned(wise_ft=chose(WISE, a=0.33)))

    (sweep,) = sweeps(found)

    assert [group.config["a"] for group in sweep.groups] == [0.25, 0.5, 0.75]
    assert found.settings == {} and len(sweeps(condition_of(runs))[0].groups) == 4


@pytest.mark.slow
def test_a_chosen_strength_that_a_sweep_has_too_stays_in_it(tmp_path):
    runs = swept(tmp_path, "hpa") + swept(tmp_path, "magnitude_columns")
    chosen = {"hpa": chose(HPA, **rates(30.0, 10.0)), "magnitude_columns": chose(HPA, **rates(21.0, 6.0))}
    runs += made(tmp_path, "magnitude_columns", HPA, **rates(21.0, 6.0))
    (found,) = conditions(read_runs(runs), tuned(**chosen))

    assert [len(found.settings[method]) for method in ("hpa", "magnitude_columns")] == [4, 4]
    assert "hpa (p_max=30.0, p_min=10.0)" in labels(found.settings["hpa"])
    hpa = [side for side in sides(found) if side.method == "hpa"]
    assert [side.group.label for side in hpa if side.group] == ["hpa", "hpa (p_max=30.0, p_min=10.0)"]


def test_a_strength_that_all_were_tuned_to_is_no_sweep(tmp_path):
    runs = [run for name in ("hpa", "magnitude_columns") for run in made(tmp_path, name, HPA, **rates(30.0, 10.0))]
    runs += [run for name in ("hpa", "magnitude_columns") for run in made(tmp_path, name, HPA)]
    runs += made(tmp_path, "hpa", HPA, **rates(60.0, 20.0))
    both = {name: chose(HPA, **rates(30.0, 10.0)) for name in ("hpa", "magnitude_columns")}

    assert main_of(runs, **both) == ["hpa", "hpa (p_max=60.0, p_min=20.0)", "magnitude_columns"]


@pytest.mark.slow
def test_a_chosen_setting_with_more_seeds_was_asked_for(tmp_path):
    def with_seeds(count):
        runs = made(tmp_path / str(count), "safe_delta", {"s": 0.1}, 4)
        for name, config, chosen, seeds in CHOSEN:
            runs += made(tmp_path / str(count), name, config, seeds or count, **chosen)
        return main_of(runs, **{name: chose(config, **chosen) for name, config, chosen, _ in CHOSEN})

    assert with_seeds(4) == ["safe_delta", "safe_delta (s=1000.0)"]
    # One more may only be the seed that the others get next.
    assert with_seeds(3) == ["safe_delta"]


CHOSEN = [
    ("safe_delta", {"s": 0.1}, {"s": 1000.0}, 0),
    ("l2", {"strength": 0.1}, {"strength": 0.7}, 2),
    ("ewc", {"strength": 0.1}, {"strength": 0.2}, 2),
]
