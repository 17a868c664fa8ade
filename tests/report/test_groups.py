"""The seeds of one method together: differences between methods are paired, and seeds widen an interval."""

from dataclasses import replace

import numpy as np
import pytest

from hpa_bench.report.conditions import conditions
from hpa_bench.results.measures import Cell
from hpa_bench.results.runs import read_runs
from tests.support.reports import AP, MASR
from tests.support.run_folders import rewrite_manifest, write_run


@pytest.mark.slow
def test_differences_are_paired(tmp_path):
    seqft, hpa = write_run(tmp_path, "seqft"), write_run(tmp_path, "hpa")

    (condition,) = conditions(read_runs([seqft, hpa]))
    difference = condition.groups[1].difference(condition.reference, AP)
    ours, reference = condition.groups[1].final(AP), condition.reference.final(AP)

    assert isinstance(difference, Cell) and isinstance(ours, Cell) and isinstance(reference, Cell)
    assert difference.value == pytest.approx(ours.value - reference.value)
    unpaired = np.hypot(ours.high - ours.low, reference.high - reference.low)
    assert difference.high - difference.low < 0.8 * unpaired  # The same samples are hard for both.


@pytest.mark.slow
def test_a_method_minus_its_twin_is_nothing(tmp_path):
    one, twin = write_run(tmp_path / "a", "seqft"), write_run(tmp_path / "b", "seqft")
    rewrite_manifest(twin, method="twin")

    (condition,) = conditions(read_runs([one, twin]))

    difference = condition.groups[1].difference(condition.groups[0], MASR)
    assert isinstance(difference, Cell) and difference[:4] == (0, 80, 0, 0) and difference.p == 1


@pytest.mark.slow
def test_seeds_widen_the_interval(tmp_path):
    runs = read_runs([write_run(tmp_path, "seqft", seed) for seed in range(3)])
    for index, run in enumerate(runs):  # Seeds that differ far more than the samples do.
        run.measures.update({key: shifted(measure, -20 * index) for key, measure in run.measures.items()})

    (condition,) = conditions(runs)
    cell = condition.groups[0].final(AP)

    assert isinstance(cell, Cell) and cell.seeds == 3 and cell.sd == pytest.approx(20, abs=3)
    assert cell.high - cell.low > 50


def shifted(measure, by):
    return replace(measure, value=measure.value + by)
