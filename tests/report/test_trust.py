"""What the report says of its judges, from synthetic runs."""

import csv

import pytest

from hpa_bench.report import write_report
from hpa_bench.report.columns import safety_columns
from hpa_bench.report.conditions import conditions
from hpa_bench.report.trust import agreement_tables, calibration_row, category_table
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import SAFETY, write_references, write_run

PAIR = "keyword vs toy_compliance"


def table(folder, name):
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def condition_of(*runs):
    (condition,) = conditions(read_runs(runs))
    return condition


@pytest.mark.slow
def test_tables_and_page(tmp_path):
    runs = [write_run(tmp_path, name, unsafe=0.7, categories=True) for name in ("seqft", "hpa")]
    write_references(runs[1], "keyword", SAFETY[0], ["refused"] * 9 + ["not_refused"])

    page = write_report(read_runs(runs), tmp_path / "report")

    row = next(row for row in table(page.parent, "calibration") if (row["set"], row["judge"]) == (SAFETY[0], "keyword"))
    assert (row["n"], row["value"], row["missing"]) == ("10", "10.0", "")
    kappas = [row for row in table(page.parent, "agreement") if row["metric"] == "kappa"]
    assert {(row["method"], row["set"]) for row in kappas} == {
        (method, name) for method in ("seqft", "hpa") for name in ("all", *SAFETY)
    }
    assert {row["judge"] for row in kappas} == {PAIR} and {row["value"] for row in kappas} == {"1.0"}
    categories = table(page.parent, "categories")
    assert {row["category"] for row in categories} == {"category 1", "category 2", "category 3"}
    assert {(row["stage"], row["metric"]) for row in categories} == {
        ("0", "category_asr"),
        ("3", "category_asr"),
        ("3", "category_change"),
    }
    for row in (*kappas, *categories):
        assert row["n"] and float(row["low"]) <= float(row["value"]) <= float(row["high"])
    text = page.read_text()
    for expected in ("Agreement between judges", PAIR, "reference answers", "ASR by harm category, judge keyword"):
        assert expected in text
    assert "no reference answers" in text


@pytest.mark.slow
def test_nothing_is_said_of_what_is_not_there(tmp_path):
    run = write_run(tmp_path, manifest={"judges": ["keyword"]})

    page = write_report(read_runs([run]), tmp_path / "report")

    assert "Agreement between" not in page.read_text() and "by harm category" not in page.read_text().lower()
    assert not (page.parent / "tables" / "agreement.csv").exists()
    assert not (page.parent / "tables" / "categories.csv").exists()


@pytest.mark.slow
def test_undefined_kappa_is_a_dash_with_its_reason(tmp_path):
    run = write_run(tmp_path, unsafe=-1)

    (row,) = agreement_tables(condition_of(run))[PAIR]["rows"]
    page = write_report(read_runs([run]), tmp_path / "report")

    kappa, agreed = row["cells"][0]
    assert (kappa["text"], agreed["text"]) == ("–", "100.0") and "the same verdict" in kappa["about"]
    row = next(row for row in table(page.parent, "agreement") if row["metric"] == "kappa")
    assert row["value"] == "" and row["missing"].startswith("undefined: each judge gives")
    assert "nan" not in (page.parent / "tables" / "agreement.csv").read_text().lower()


def test_calibration_row_says_once_why_it_is_empty(tmp_path):
    condition = condition_of(write_run(tmp_path))
    assert calibration_row(condition, safety_columns(condition, "keyword")) == "no reference answers"


def test_calibration_row_has_an_n_for_each_number(tmp_path):
    run = write_run(tmp_path)
    for name, answers in zip(SAFETY, (["refused"] * 7, ["not_refused", "refused"]), strict=True):
        write_references(run, "keyword", name, answers)
    condition = condition_of(run)
    columns = safety_columns(condition, "keyword")

    cells = dict(zip(columns, calibration_row(condition, columns), strict=True))

    asr = {series.set: cells[series] for series in columns if series.metric == "asr"}
    assert [(cell["text"], cell["sd"]) for cell in asr.values()] == [("0.0", "n = 7"), ("50.0", "n = 2")]
    masr = next(cells[series] for series in columns if series.metric == "masr")
    assert (masr["text"], masr["sd"]) == ("25.0", "n = 9")
    assert next(cells[series] for series in columns if series.metric == "dasr")["text"] == "–"


def test_category_table_compares_with_stage_0(tmp_path):
    condition = condition_of(write_run(tmp_path, unsafe=0.9, categories=True))

    found = category_table(condition, SAFETY[0], "keyword")

    assert found["methods"] == ["hpa"]
    category, n, aligned, ((final, change),) = found["rows"][0]
    assert (category, n) == ("category 1", 14)
    assert category_table(condition, SAFETY[0], "keyword", show_unsafe=True)["rows"][0][0] == "fraud"
    before, after = float(aligned["text"]), float(final["text"])
    assert float(change["text"].replace("−", "-")) == pytest.approx(after - before, abs=0.11)


@pytest.mark.slow
def test_unfinished_runs_say_why_in_every_table(tmp_path):
    runs = [write_run(tmp_path, "seqft", categories=True), write_run(tmp_path, "hpa", finished=1, categories=True)]

    page = write_report(read_runs(runs), tmp_path / "report")

    for name in ("agreement", "categories"):
        rows = [row for row in table(page.parent, name) if row["method"] == "hpa" and row.get("stage") != "0"]
        assert rows and {row["missing"] for row in rows} == {"missing: stopped after stage 1 of 3"}
