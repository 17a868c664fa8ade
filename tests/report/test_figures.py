"""The figures: what is drawn, and that nothing in them overlaps or breaks."""

import warnings

import pytest

from hpa_bench.report import write_report
from hpa_bench.report.conditions import conditions
from hpa_bench.report.figures import safety_against_accuracy
from hpa_bench.report.paper import write_paper
from hpa_bench.results.runs import read_runs
from tests.support.reports import Visible, condition_of, report_of, setting
from tests.support.run_folders import write_run


@pytest.mark.slow
def test_dollars_in_a_setting_are_no_mathematics(tmp_path):
    odd = {"words": r"a$\bad{$b"}
    page = report_of([write_run(tmp_path), write_run(tmp_path, config=odd, changed=odd)], tmp_path / "report")

    assert r"a$\bad{$b" in Visible(page).text


@pytest.mark.slow
def test_letters_that_the_font_lacks_are_spelled_without_a_warning(tmp_path):
    odd = {"words": "\u65b9 \U0001f680"}
    runs = [write_run(tmp_path, name, tasks=["toy_\u6c49", "toy_ad"], n=8) for name in ("seqft", "hpa")]
    runs.append(write_run(tmp_path, config=odd, changed=odd, tasks=["toy_\u6c49", "toy_ad"], n=8))
    found = read_runs(runs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write_report(found, tmp_path / "report")
        write_paper(conditions(found), tmp_path / "paper")

    assert "\u65b9 \U0001f680" in Visible(page).text
    names = [text.get_text() for text in safety_against_accuracy(condition_of(runs)).axes[0].texts]
    assert r"hpa (words=\u65b9 \U0001f680)" in names


@pytest.mark.slow
def test_keep_rate_is_drawn_from_three_rates_on(tmp_path):
    changes = [{"orthogonal": False}, {"p_max": 20.0}, {"selection": "none"}]
    runs = [setting(tmp_path), *(setting(tmp_path, **changed) for changed in changes)]

    page = write_report(read_runs(runs), tmp_path / "report")

    assert not list((page.parent / "figures").glob("keep-rate*"))
