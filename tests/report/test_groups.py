"""What is marked as best, which settings stand in the main table, and what the tables of them say."""

import csv
import io

import pytest
from rich.console import Console

from hpa_bench.report import terminal_table, write_report
from hpa_bench.report.conditions import conditions
from hpa_bench.report.ranking import best_and_second, ranked
from hpa_bench.results.measures import ALL, Cell, Series
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import TASKS, rewrite_manifest, write_run

AP = Series(ALL, "task", "", "ap")
MASR = Series(ALL, "safety", "keyword", "masr")
HPA = {"p_max": 15.0, "p_min": 5.0, "selection": "full", "orthogonal": True}


def condition_of(runs):
    (condition,) = conditions(read_runs(runs))
    return condition


def twin(root, name, **options):
    """Write the run of a method that answers as its twins of other names do."""
    run = write_run(root / name, "seqft", **options)
    rewrite_manifest(run, method=name)
    return run


def setting(root, seed=0, forget=0.25, unsafe=0.2, **changed):
    return write_run(root, "hpa", seed, config=HPA | changed, changed=changed, forget=forget, unsafe=unsafe, n=40)


@pytest.mark.slow
def test_best_and_second_are_marked_where_they_are_told_apart(tmp_path):
    runs = [write_run(tmp_path, f"m{i}", forget=0.2 * i, unsafe=0.1 + 0.3 * i, n=300) for i in range(4)]
    condition = condition_of(runs)

    assert best_and_second(AP, condition.main) == {"m0": "best", "m1": "second"}
    assert best_and_second(MASR, condition.main) == {"m0": "best", "m1": "second"}  # Here the lowest is the best.


def test_two_that_are_equal_leave_both_places_empty(tmp_path):
    runs = [twin(tmp_path, name, forget=0.0, n=300) for name in ("one", "two")]
    condition = condition_of([*runs, twin(tmp_path, "far", forget=0.9, n=300)])

    assert [group.label for group in ranked(AP, condition.main)] == ["one", "two", "far"]
    assert best_and_second(AP, condition.main) == {}


def test_second_place_is_empty_where_second_and_third_are_equal(tmp_path):
    runs = [twin(tmp_path, name, forget=0.9, n=300) for name in ("one", "two")]
    condition = condition_of([*runs, twin(tmp_path, "far", forget=0.0, n=300)])

    assert best_and_second(AP, condition.main) == {"far": "best"}


def test_best_of_two_is_marked_and_the_last_is_no_second(tmp_path):
    condition = condition_of(
        [write_run(tmp_path, name, forget=forget, n=300) for name, forget in (("a", 0.8), ("b", 0))]
    )

    assert best_and_second(AP, condition.main) == {"b": "best"}


@pytest.mark.slow
def test_best_must_differ_from_all_below_not_from_the_next_alone(tmp_path):
    good = [write_run(tmp_path, "good", seed, forget=0.1, n=300) for seed in range(3)]
    near = [write_run(tmp_path, "near", seed, forget=0.3, n=300) for seed in range(3)]
    wild = [write_run(tmp_path, "wild", seed, forget=forget, n=300) for seed, forget in enumerate((0.0, 0.5, 1.2))]
    condition = condition_of([*good, *near, *wild])
    first, second, third = ranked(AP, condition.main)

    assert (first.label, second.label, third.label) == ("good", "near", "wild")
    assert first.difference(second, AP).excludes_zero and not first.difference(third, AP).excludes_zero
    assert best_and_second(AP, condition.main) == {}


@pytest.mark.slow
def test_references_are_neither_ranked_nor_marked(tmp_path):
    runs = [write_run(tmp_path, "zero_shot", stages=[], n=300), write_run(tmp_path, "joint", stages=[TASKS], n=300)]
    runs += [write_run(tmp_path, "seqft", forget=0.8, unsafe=0.9, n=300), write_run(tmp_path, "hpa", forget=0.3, n=300)]
    condition = condition_of(runs)

    assert [group.label for group in ranked(MASR, condition.main)] == ["hpa", "seqft"]
    assert best_and_second(MASR, condition.main) == {"hpa": "best"}


@pytest.mark.slow
def test_method_that_failed_is_not_ranked(tmp_path):
    runs = [write_run(tmp_path, "a", forget=0.0, n=300), write_run(tmp_path, "b", forget=0.8, n=300)]
    condition = condition_of([*runs, write_run(tmp_path, "broken", finished=1, n=300)])

    assert best_and_second(AP, condition.main) == {"a": "best"}


@pytest.mark.slow
def test_marks_reach_every_form_of_the_main_table(tmp_path):
    runs = read_runs([write_run(tmp_path, f"m{i}", forget=0.2 * i, unsafe=0.1 + 0.3 * i, n=300) for i in range(4)])
    page = write_report(runs, tmp_path / "report")
    console = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(terminal_table(runs))
    (condition,) = conditions(runs)
    best, second = (f"{condition.main[i].final(AP).value:.1f}" for i in (0, 1))

    assert f"<b>{best}</b>" in page.read_text() and f"<u>{second}</u>" in page.read_text()
    lines = (page.parent / "tables" / "main.md").read_text().splitlines()
    assert lines[2].startswith(f"| `m0` | 1 | **{best}** [") and lines[3].startswith(
        f"| `m1` | 1 | <ins>{second}</ins> ["
    )
    assert f"\x1b[1m{best}\x1b[0m" in console.file.getvalue() and f"\x1b[4m{second}\x1b[0m" in console.file.getvalue()
    with (page.parent / "tables" / "results.csv").open() as file:
        marks = {row["method"]: row["mark"] for row in csv.DictReader(file) if row["metric"] == "ap"}
    assert marks == {"m0": "best", "m1": "second", "m2": "", "m3": ""}


def test_what_changes_no_weight_makes_no_other_condition(tmp_path):
    recipe = {"learning_rate": 0.001, "save_steps": 500, "workers": None, "gradient_checkpointing": False}
    changes = [{}, {"save_steps": 5}, {"workers": 2}, {"gradient_checkpointing": True}]
    runs = [
        write_run(tmp_path, "hpa", seed, manifest={"training": recipe | changed, "suite_config": {"training": {}}})
        for seed, changed in enumerate(changes)
    ]
    (found,) = conditions(read_runs(runs))

    assert [group.seeds for group in found.groups] == ["4"]


def test_conditions_are_never_of_one_title(tmp_path):
    runs = []
    for rate in (0.001, 0.01):
        recipe = {"training": {"learning_rate": rate, "batch_size": 16}}
        runs.append(write_run(tmp_path / str(rate), "hpa", manifest=recipe | {"suite_config": recipe}))

    titles = [found.title for found in conditions(read_runs(runs))]

    assert titles == ["toy; training.learning_rate 0.001", "toy; training.learning_rate 0.01"]


def test_few_settings_stay_in_the_main_table(tmp_path):
    runs = [setting(tmp_path), setting(tmp_path, p_max=20.0), setting(tmp_path, orthogonal=False)]
    condition = condition_of(runs)

    assert condition.settings == {}
    assert [group.label for group in condition.main] == ["hpa", "hpa (orthogonal=False)", "hpa (p_max=20.0)"]


def test_many_settings_have_a_section_of_their_own(tmp_path):
    changes = [{"orthogonal": False}, {"p_max": 20.0}, {"p_max": 5.0}, {"selection": "none"}]
    runs = [setting(tmp_path), *(setting(tmp_path, **changed) for changed in changes)]
    for match in ("columns", "norm"):
        changed = {} if match == "columns" else {"match": match}
        runs.append(write_run(tmp_path, "random_columns", config={"match": match}, changed=changed))
    condition = condition_of(runs)

    assert [group.label for group in condition.main] == ["hpa", "random_columns", "random_columns (match=norm)"]
    labels = [group.label for group in condition.settings["hpa"]]
    assert labels == ["hpa", "hpa (p_max=5.0)", "hpa (p_max=20.0)", "hpa (selection=none)", "hpa (orthogonal=False)"]


def test_settings_without_a_default_stay_in_the_main_table(tmp_path):
    runs = [setting(tmp_path, p_max=rate) for rate in (5.0, 20.0, 30.0, 40.0)]
    condition = condition_of(runs)

    assert condition.settings == {} and len(condition.main) == 4


@pytest.mark.slow
def test_section_of_settings_shows_differences_to_the_default(tmp_path):
    runs = [setting(tmp_path, seed) for seed in (0, 1)]
    for changed in ({"p_max": 5.0}, {"p_max": 30.0, "p_min": 10.0}, {"selection": "none"}):
        runs += [setting(tmp_path, seed, forget=0.6, unsafe=0.9, **changed) for seed in (0, 1)]
    condition = condition_of(runs)
    page = write_report(read_runs(runs), tmp_path / "report")

    default, five, *_ = condition.settings["hpa"]
    difference = five.difference(default, MASR)
    assert isinstance(difference, Cell) and difference.seeds == 2 and difference.excludes_zero
    html = page.read_text()
    assert "Settings of hpa" in html and "default<small>p_max=15, p_min=5, selection=full</small>" in html
    assert f"Δ +{difference.value:.1f} [{difference.low:.1f}, {difference.high:.1f}]" in html
    with (page.parent / "tables" / "differences.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "masr"]
    assert {(row["method"], row["reference"]) for row in rows} == {
        (group.label, "hpa") for group in condition.groups[1:]
    }
    assert float(rows[0]["value"]) == pytest.approx(difference.value, abs=1e-4)
    assert (page.parent / "figures" / "keep-rate-hpa.svg").exists()
    assert not (page.parent / "figures" / "accuracy-matrix-hpa-p-max-5-0.svg").exists()


@pytest.mark.slow
def test_keep_rate_is_drawn_from_three_rates_on(tmp_path):
    changes = [{"orthogonal": False}, {"p_max": 20.0}, {"selection": "none"}]
    runs = [setting(tmp_path), *(setting(tmp_path, **changed) for changed in changes)]

    page = write_report(read_runs(runs), tmp_path / "report")

    assert not list((page.parent / "figures").glob("keep-rate*"))
