"""Which methods are marked as best, and which of many a figure shows."""

import pytest

from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import conditions
from hpa_bench.report.groups import REFERENCES
from hpa_bench.report.ranking import (
    LEADING,
    SHOWN,
    best_and_second,
    corrected,
    front,
    leading,
    ranked,
    shown_groups,
    told_better,
    told_from_zero,
)
from hpa_bench.results.measures import Cell
from hpa_bench.results.runs import read_runs
from tests.support.reports import AP, MASR, Visible, condition_of, report_of, unlike_seeds
from tests.support.run_folders import TASKS, rewrite_manifest, write_run


def twin(root, name, **options):
    """Write the run of a method that answers as its twins of other names do."""
    run = write_run(root / name, "seqft", **options)
    rewrite_manifest(run, method=name)
    return run


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
    assert told_from_zero([first.difference(second, AP)]) == [True]
    assert told_from_zero([first.difference(third, AP)]) == [False]
    assert best_and_second(AP, condition.main) == {}


@pytest.mark.slow
@pytest.mark.parametrize("series", [AP, MASR])
def test_better_by_seeds_that_the_other_has_not_is_no_better(series, tmp_path):
    condition = condition_of(unlike_seeds(tmp_path))
    first, second = ranked(series, condition.main)

    assert first.label == "many" and told_from_zero([first.difference(second, series)]) == [True]
    assert told_better(first, [second], series) == [False]
    assert best_and_second(series, condition.main) == {}


def test_differences_are_corrected_over_their_family_alone():
    cells = [Cell(1.0, 10, 0.1, 2.0, p=p) for p in (0.03, 0.01, 0.2)]

    assert corrected([cells[0], "-", *cells[1:]]) == [
        pytest.approx(0.06),
        None,
        pytest.approx(0.03),
        pytest.approx(0.2),
    ]
    assert told_from_zero([cells[0], "-", *cells[1:]]) == [False, False, True, False]
    assert told_from_zero(cells[:1]) == [True]
    assert told_from_zero([]) == []


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
def test_figures_of_many_methods_show_a_few(tmp_path):
    runs = [write_run(tmp_path, "zero_shot", stages=[]), write_run(tmp_path, "joint", stages=[TASKS])]
    runs += [write_run(tmp_path, name, forget=0.9, unsafe=0.9) for name in ("seqft", "hpa")]
    runs += [write_run(tmp_path, f"m{i:02}", forget=0.04 * i, unsafe=0.8 - 0.04 * i) for i in range(20)]

    (condition,) = conditions(read_runs(runs))
    page = report_of(runs, tmp_path / "report")

    shown = {group.label for group in shown_groups(condition)}
    assert len(shown) == SHOWN and {"seqft", "hpa"} <= shown and not {"zero_shot", "joint"} & shown
    for series in plane(condition):
        assert ranked(series, condition.main)[0].label in shown
    text = Visible(page).text
    for group in condition.main:
        assert f"{group.label} after stage ad digits caption 0 aligned" in text  # Its accuracy matrix, folded.


@pytest.mark.slow
def test_the_first_screen_has_references_front_and_extremes(tmp_path):
    runs = [write_run(tmp_path, "zero_shot", stages=[]), write_run(tmp_path, "joint", stages=[TASKS])]
    runs += [write_run(tmp_path, name, forget=0.9, unsafe=0.9) for name in ("seqft", "hpa")]
    runs += [write_run(tmp_path, f"m{i:02}", forget=0.04 * i, unsafe=0.8 - 0.04 * i) for i in range(9)]
    (condition,) = conditions(read_runs(runs))

    leads = leading(condition)

    accuracy, safety = plane(condition)
    assert len(leads) == LEADING and leads[-2:] == [group for group in leads if group.method in REFERENCES]
    assert {group.label for group in leads} >= {"zero_shot", "joint", "seqft", "hpa"}
    values = [group.final(accuracy).value for group in leads[:-2]]
    assert values == sorted(values, reverse=True)
    best = front(condition)
    assert ranked(accuracy, condition.main)[0] in best and ranked(safety, condition.main)[0] in best
    masr = [group.final(safety).value for group in best]
    assert masr == sorted(masr) and [group for group in best if group in leads] == best[: LEADING - 4]
