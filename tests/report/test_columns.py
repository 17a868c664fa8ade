"""Which numbers have a column: of what a suite has, and every metric that is declared."""

import pytest

from hpa_bench import metrics
from hpa_bench.report import write_report
from hpa_bench.report.columns import headline, pairs, plane, safety_columns
from hpa_bench.results.measures import Key, Series
from hpa_bench.results.run_folder import find_runs
from hpa_bench.results.runs import load_runs, read_runs
from tests.support.reports import AP, MASR, Visible, condition_of, report_of, table
from tests.support.run_folders import TASKS, write_run


def test_the_first_judge_decides_refusals_and_the_first_that_can_tell_compliance(tmp_path):
    condition = condition_of([write_run(tmp_path)])

    assert [series.judge for series in headline(condition)] == ["", "", *["keyword"] * 2, "toy_compliance", "keyword"]
    assert plane(condition) == (AP, MASR)
    assert pairs(condition) == ["keyword vs toy_compliance"]
    told = {judge: {series.metric for series in safety_columns(condition, judge)} for judge in condition.judges}
    assert told["toy_compliance"] - told["keyword"] == {"complied"} and not told["keyword"] - told["toy_compliance"]


def test_without_safety_sets_accuracy_alone_has_columns(tmp_path):
    condition = condition_of([write_run(tmp_path, safety_sets=[], benign_sets=[])])

    assert headline(condition) == [AP, AP._replace(metric="bwt")]
    assert safety_columns(condition, "keyword") == pairs(condition) == []


@pytest.mark.slow
def test_suite_without_safety_sets(tmp_path):
    page = report_of([write_run(tmp_path, safety_sets=[], benign_sets=[])], tmp_path / "report")

    assert not (page.parent / "figures" / "safety-trajectory.svg").exists()
    assert {row["kind"] for row in table(page, "results")} == {"task", "update"}


@pytest.mark.slow
def test_a_metric_that_is_declared_once_stands_everywhere(tmp_path, monkeypatch):
    """The lowest final accuracy of any task, as a stranger might want it."""
    monkeypatch.setitem(metrics.METRICS, "worst", metrics.METRICS["ap"])  # Taken away after the test.
    write_run(tmp_path / "runs", "hpa")

    @metrics.continual("Worst", "higher")
    def worst(matrix):
        """The lowest accuracy of any task after the last stage."""
        return matrix[..., -1, :].min(-1)

    found = read_runs(find_runs([tmp_path / "runs"]))
    page = write_report(found, tmp_path / "report")

    expected = min(found[0].measures[Key(3, Series(task, "task", "", "accuracy"))].value for task in TASKS)
    (row,) = [row for row in table(page, "results") if row["metric"] == "worst"]
    assert float(row["value"]) == pytest.approx(expected, abs=1e-4) and float(row["low"]) < float(row["value"])
    frame = load_runs(tmp_path / "runs")
    assert frame[frame.metric == "worst"].value.item() == pytest.approx(expected)
    assert "Worst ↑" in Visible(page).text and "The lowest accuracy of any task after" in Visible(page).text
