"""The figures: what is drawn, and that nothing in them overlaps or breaks."""

import pytest

from hpa_bench.report import write_report
from hpa_bench.report.conditions import conditions
from hpa_bench.report.figures import safety_against_accuracy
from hpa_bench.results.runs import read_runs
from tests.support.reports import Visible, report_of, setting
from tests.support.run_folders import write_run


@pytest.mark.slow
def test_dollars_in_a_setting_are_no_mathematics(tmp_path):
    odd = {"words": r"a$\bad{$b"}
    page = report_of([write_run(tmp_path), write_run(tmp_path, config=odd, changed=odd)], tmp_path / "report")

    assert r"a$\bad{$b" in Visible(page).text


@pytest.mark.slow
def test_numbers_in_the_figure_do_not_overlap(tmp_path):
    runs = [write_run(tmp_path, f"m{i:02}", forget=0.2 + 0.01 * (i % 5), unsafe=0.1 + 0.02 * i) for i in range(24)]
    (condition,) = conditions(read_runs(runs))

    figure = safety_against_accuracy(condition)

    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [str(number) for number in range(1, 25)]
    for index, box in enumerate(boxes):
        inner = box.padded(-2)  # The glyphs, without the room above and below them.
        assert not any(inner.overlaps(other.padded(-2)) for other in boxes[index + 1 :])


@pytest.mark.slow
def test_keep_rate_is_drawn_from_three_rates_on(tmp_path):
    changes = [{"orthogonal": False}, {"p_max": 20.0}, {"selection": "none"}]
    runs = [setting(tmp_path), *(setting(tmp_path, **changed) for changed in changes)]

    page = write_report(read_runs(runs), tmp_path / "report")

    assert not list((page.parent / "figures").glob("keep-rate*"))
