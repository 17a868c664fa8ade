"""Methods at equal accuracy on tasks just learned: which are swept, at which level, and what is between strengths."""

from types import SimpleNamespace

import numpy as np
import pytest

from hpa_bench.report.plasticity import LEARNED, level, match, matched, sweeps
from hpa_bench.results.measures import Cell, Key, Measure
from tests.support.reports import AP, HPA, MASR, Visible, condition_of, report_of, table
from tests.support.run_folders import write_run

BWT = AP._replace(metric="bwt")
RATES = {5.0: 0.9, 20.0: 0.8, 40.0: 0.7, 60.0: 0.5}
"""Made-up accuracies on tasks just learned, by the share of columns kept."""


def run(learned, number, series=BWT, errors=(0.0, 0.0), others=(0.0, 0.0)):
    measures = {
        Key(3, LEARNED): Measure(learned, 90, np.array(errors)),
        Key(3, series): Measure(number, 90, np.array(others)),
    }
    return SimpleNamespace(measures=measures, last=3)


def test_a_number_is_linear_between_neighbouring_strengths():
    runs = [run(90, -40), run(80, -20), run(60, -10)]

    assert matched(runs, BWT, 85).value == pytest.approx(-30)
    assert matched(runs, BWT, 65).value == pytest.approx(-12.5)
    assert matched(runs, BWT, 90).value == pytest.approx(-40)


def test_nothing_is_extrapolated():
    runs = [run(90, -40), run(80, -20)]

    assert matched(runs, BWT, 90.1) is None and matched(runs, BWT, 79.9) is None
    assert matched(runs[:1], BWT, 90) is None


def test_where_the_level_is_crossed_twice_it_is_the_mean():
    assert matched([run(70, 0), run(90, -10), run(70, -40)], BWT, 80).value == pytest.approx((-5 - 25) / 2)


def test_equally_accurate_strengths_count_alike():
    assert matched([run(80, -10), run(80, -30)], BWT, 80).value == -20


def test_a_strength_without_the_number_is_passed_over():
    without = SimpleNamespace(measures={Key(3, LEARNED): Measure(80.0, 90, np.zeros(2))}, last=3)

    assert matched([run(90, -40), without, run(60, -10)], BWT, 75).value == pytest.approx(-25)


@pytest.mark.parametrize("series", [BWT, MASR])
def test_sampling_errors_are_those_of_the_interpolation(series):
    rng = np.random.default_rng(0)
    at, errors = 84.0, rng.normal(0, 0.01, (4, 5))
    x, y = (90.0, 80.0), (-40.0, -20.0)
    runs = [run(x[i], y[i], series, errors[i], errors[2 + i]) for i in (0, 1)]

    found = matched(runs, series, at)

    def moved(dx, dy):
        return np.interp(at, [x[1] + dx[1], x[0] + dx[0]], [y[1] + dy[1], y[0] + dy[0]]) - found.value

    accuracy = [moved(errors[:2, unit], (0, 0)) for unit in range(5)]
    number = [moved((0, 0), errors[2:, unit]) for unit in range(5)]
    # Both accuracies stand on the same test samples; safety on others.
    expected = np.add(accuracy, number) if series == BWT else np.concatenate([number, accuracy])
    assert found.deviations == pytest.approx(expected, rel=0.02)


def swept(root, method="hpa", seeds=(0, 1), rates=RATES, forget=0.4, **changed):
    defaults = HPA | {"match": "columns"} if method == "random_columns" else HPA
    return [
        write_run(
            root,
            method,
            seed,
            config=defaults | changed | {"p_max": rate, "p_min": rate},
            changed=changed | {"p_max": rate, "p_min": rate},
            learn=learn,
            forget=forget,
            unsafe=0.9 - rate / 80,
        )
        for rate, learn in rates.items()
        for seed in seeds
    ]


@pytest.mark.slow
def test_methods_are_swept_by_their_strength_alone(tmp_path):
    runs = swept(tmp_path, seeds=[0]) + swept(tmp_path, "random_columns", seeds=[0], match="norm")
    runs += swept(tmp_path, seeds=[0], rates=dict(list(RATES.items())[:2]), orthogonal=False)
    runs += [
        write_run(tmp_path, "wise_ft", config={"a": a, "reference": "previous"}, changed={"a": a})
        for a in (0.75, 0.25, 0.5)
    ]
    runs.append(write_run(tmp_path, "seqft"))

    found = {sweep.label: sweep.groups for sweep in sweeps(condition_of(runs))}

    assert list(found) == ["hpa", "random_columns (match=norm)", "wise_ft"]
    assert [group.config["p_max"] for group in found["hpa"]] == list(RATES)
    assert [group.config["a"] for group in found["wise_ft"]] == [0.25, 0.5, 0.75]


@pytest.mark.slow
def test_the_level_is_the_highest_that_all_reach_in_every_seed(tmp_path):
    runs = swept(tmp_path) + swept(tmp_path, "magnitude_columns", rates={5.0: 0.75, 20.0: 0.6, 40.0: 0.4})
    condition = condition_of(runs)
    hpa, magnitude = sweeps(condition)

    found = match(condition)

    assert magnitude.seeds == [0, 1]
    assert found.level == level([hpa, magnitude]) == min(max(magnitude.learned(seed)) for seed in (0, 1))
    assert found.level < min(max(hpa.learned(seed)) for seed in (0, 1))
    ours, theirs = found.rows
    assert found.reference is ours.sweep and ours.sweep.label == "hpa"
    assert all(isinstance(cell, Cell) and cell.seeds == 2 for cell in [*ours.cells, *theirs.cells])
    for one, other, difference in zip(ours.cells, theirs.cells, theirs.differences, strict=True):
        assert difference.value == pytest.approx(one.value - other.value)
    # So many columns back leave so much of the refusals: at equal accuracy hpa keeps fewer, here, by construction.
    assert theirs.differs[1] == (theirs.p_holm[1] < 0.05) and ours.p_holm == [None, None]


def test_a_method_that_is_nowhere_as_inaccurate_is_missing(tmp_path):
    runs = swept(tmp_path, seeds=[0], rates={5.0: 0.95, 20.0: 0.93, 40.0: 0.9})
    runs += swept(tmp_path, "magnitude_columns", seeds=[0], rates={5.0: 0.6, 20.0: 0.5, 40.0: 0.3})
    found = match(condition_of(runs))

    assert found.rows[0].cells[0].startswith("missing: no two strengths enclose")
    assert found.rows[1].differences[0] == "missing: no seed in common"


def test_seeds_are_those_that_every_strength_has(tmp_path):
    runs = swept(tmp_path, seeds=[0], rates={5.0: 0.9, 20.0: 0.8, 40.0: 0.7})
    runs += swept(tmp_path, seeds=[7], rates={5.0: 0.9})

    (sweep,) = sweeps(condition_of(runs))

    assert sweep.seeds == [0]


@pytest.mark.slow
def test_the_page_has_a_section_where_two_methods_were_swept(tmp_path):
    runs = swept(tmp_path / "runs") + swept(tmp_path / "runs", "magnitude_columns", forget=0.2)
    page = report_of(runs, tmp_path / "report")

    assert "Matched plasticity" in Visible(page).text
    assert (page.parent / "figures" / "matched-plasticity.svg").exists()
    rows = table(page, "plasticity")
    assert {(row["method"], row["reference"]) for row in rows} == {
        ("hpa", ""),
        ("magnitude_columns", ""),
        ("magnitude_columns", "hpa"),
    }
    assert {row["strengths"] for row in rows} == {"4"} and {row["seeds"] for row in rows} == {"2"}

    alone = report_of(runs[: len(runs) // 2], tmp_path / "alone")

    assert "Matched plasticity" not in Visible(alone).text
    assert not (alone.parent / "tables" / "plasticity.csv").exists()
