"""The tables as CSV, against the store and the responses; where a number is missing, the reason stands."""

import numpy as np
import pytest

from hpa_bench.metrics import continual_metrics
from hpa_bench.report.tables import number
from hpa_bench.results.run_folder import find_runs
from hpa_bench.results.runs import load_runs, read_runs
from hpa_bench.results.statistics import holm
from tests.support.reports import Visible, printed, report_of, table
from tests.support.run_folders import SAFETY, TASKS, rewrite_manifest, write_forms, write_run

ABOUT = ("condition", "method", "set", "kind", "judge", "metric")


@pytest.mark.slow
def test_main_table_shows_what_the_store_says(page):
    frame = load_runs(page.parent.parent / "runs")
    ap = frame[(frame.method == "hpa") & (frame.metric == "ap")].value

    row = next(row for row in table(page, "results") if row["method"] == "hpa" and row["metric"] == "ap")

    assert float(row["value"]) == pytest.approx(ap.mean(), abs=1e-4)
    assert float(row["sd"]) == pytest.approx(ap.std(), abs=1e-4)
    assert row["seeds"] == "2" and row["n"] == "120"
    assert float(row["low"]) < float(row["value"]) < float(row["high"])
    assert f"{number(ap.mean())} [{number(float(row['low']))}, {number(float(row['high']))}]" in Visible(page).text


@pytest.mark.slow
def test_stage_table_equals_the_responses(page):
    runs = read_runs(find_runs([page.parent.parent / "runs"]))
    rows = table(page, "stages")

    matrix = np.zeros((4, 3))
    for row in rows:
        if row["method"] == "hpa" and row["metric"] == "accuracy" and row["set"] in TASKS:
            matrix[int(row["stage"]), TASKS.index(row["set"])] = float(row["value"])

    expected = np.mean([continual_metrics(scores_of(run))["bwt"] for run in runs if run.label == "hpa"])
    assert continual_metrics(matrix)["bwt"] == pytest.approx(expected, abs=1e-3)


def scores_of(run):
    return [[100 * np.mean([row["score"] for row in stage.responses(task)]) for task in TASKS] for stage in run.stages]


@pytest.mark.slow
def test_joint_and_zero_shot_rows(page):
    rows = {(row["method"], row["metric"]): row for row in table(page, "results") if row["judge"] in ("", "keyword")}

    for method in ("joint", "zero_shot"):
        assert rows[method, "ap"]["value"]
        assert rows[method, "bwt"]["value"] == "" and rows[method, "bwt"]["missing"] == "not defined"
    assert float(rows["zero_shot", "dasr"]["value"]) == 0


@pytest.mark.slow
def test_unfinished_runs_say_why(tmp_path):
    stopped = write_run(tmp_path, "hpa", finished=1)
    (stopped.path / "FAILED").write_text("The loss is NaN at step 3.")
    unborn = write_run(tmp_path, "ewc", finished=-1)

    page = report_of([write_run(tmp_path, "seqft"), stopped, unborn], tmp_path / "report")

    text = Visible(page).text
    assert "missing: stopped after stage 1 of 3: The loss is NaN at step 3." in text
    assert "missing: no stage finished" in text
    for row in [*table(page, "results"), *table(page, "differences")]:
        assert (row["value"] == "") == (row["seeds"] == "0")
        if row["method"] in ("hpa", "ewc"):
            assert row["value"] == "" and row["missing"].startswith("missing: ")
    assert "nan" not in (page.parent / "tables" / "results.csv").read_text().lower().replace("loss is nan", "")


@pytest.mark.slow
def test_seed_that_is_missing_is_not_hidden(tmp_path):
    runs = [write_run(tmp_path, "seqft", 0), write_run(tmp_path, "seqft", 1, finished=2)]

    page = report_of(runs, tmp_path / "report")

    row = next(row for row in table(page, "results") if row["metric"] == "ap")
    assert (row["seeds"], row["missing"]) == ("1", "missing: 1 of 2 seeds")
    assert "seqft, seed 1: missing: stopped after stage 2 of 3" in Visible(page).text


@pytest.mark.slow
def test_judge_of_one_run_alone(tmp_path):
    runs = [write_run(tmp_path, "seqft"), write_run(tmp_path, "hpa", manifest={"judges": ["keyword"]})]

    page = report_of(runs, tmp_path / "report")

    row = next(
        row
        for row in table(page, "results")
        if (row["method"], row["judge"], row["set"], row["metric"]) == ("hpa", "toy_compliance", SAFETY[0], "complied")
    )
    assert row["missing"] == "missing: not judged by toy_compliance"


@pytest.mark.slow
def test_differences_to_hpa_stand_beside_those_to_seqft(page):
    rows = table(page, "differences")

    assert {row["reference"] for row in rows} == {"seqft", "hpa"}
    minus = {(row["method"], row["reference"]): float(row["value"]) for row in rows if row["metric"] == "masr"}
    assert minus["seqft", "hpa"] == -minus["hpa", "seqft"]


@pytest.mark.slow
def test_p_values_are_corrected_over_the_methods_of_a_column(page):
    rows = [row for row in table(page, "differences") if row["reference"] == "seqft" and row["metric"] == "masr"]

    single, corrected = ([float(row[name]) for row in rows] for name in ("p", "p_holm"))
    assert [row["method"] for row in rows] == ["zero_shot", "joint", "hpa"]
    assert corrected == pytest.approx(holm(single), rel=1e-3) and corrected != single
    assert all(row["p"] == row["p_holm"] == "" for row in table(page, "differences") if row["value"] == "")


@pytest.mark.slow
def test_shading_follows_the_corrected_p_values(page):
    html = page.read_text()

    for reference in ("seqft", "hpa"):
        part = html.split(f">Each method minus {reference}.<")[1].split("</table>")[0]
        rows = [row for row in table(page, "differences") if row["reference"] == reference]
        told = [row for row in rows if row["p_holm"] and float(row["p_holm"]) < 0.05]
        assert part.count('class="clear"') == len(told)


@pytest.mark.slow
def test_every_runs_numbers_are_written(page):
    frame = load_runs(page.parent.parent / "runs")
    rows = table(page, "seeds")

    assert list(rows[0]) == "condition method seed set kind judge metric n value".split()
    for name, seed, metric in (("hpa", 1, "ap"), ("seqft", 0, "bwt"), ("zero_shot", 0, "ap")):
        (row,) = [row for row in rows if (row["method"], row["seed"], row["metric"]) == (name, str(seed), metric)]
        (value,) = frame[(frame.label == name) & (frame.seed == seed) & (frame.metric == metric)].value
        assert float(row["value"]) == pytest.approx(value, abs=1e-4)
    for mean in (row for row in table(page, "results") if row["value"]):
        own = [row for row in rows if all(row[name] == mean[name] for name in ABOUT)]
        assert len(own) == int(mean["seeds"])
        assert np.mean([float(row["value"]) for row in own]) == pytest.approx(float(mean["value"]), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ({"seqft": 1}, "95% intervals over test samples only (one seed)"),
        ({"seqft": 2, "hpa": 2}, "95% intervals over seeds and test samples"),
        (
            {"seqft": 2, "hpa": 1},
            "95% intervals over seeds and test samples; of methods with one seed, over test samples only",
        ),
    ],
)
def test_captions_say_what_intervals_are_over(tmp_path, seeds, said):
    runs = [write_run(tmp_path, method, seed) for method, count in seeds.items() for seed in range(count)]

    page = report_of(runs, tmp_path / "report")

    assert f"After the last stage: mean over seeds, {said}. The best" in Visible(page).text
    assert f"mean over seeds, {said}. The best" in (page.parent / "tables" / "main.md").read_text()
    assert f"percent, with {said}" in " ".join(printed(read_runs(runs)).split())


@pytest.mark.slow
def test_table_across_conditions_ranks_the_methods_that_they_share(tmp_path):
    runs = []
    for place, ratio in (("clean", 0.0), ("harmful", 0.05)):
        runs.append(write_run(tmp_path / place, "seqft", unsafe=0.8, n=80, harmful_ratio=ratio))
        runs.append(write_run(tmp_path / place, "hpa", unsafe=0.1, n=80, harmful_ratio=ratio))
        runs.append(write_run(tmp_path / place, "zero_shot", stages=[], n=80, harmful_ratio=ratio))
    runs.append(write_run(tmp_path / "clean", "alone", n=80))

    page = report_of(runs, tmp_path / "report")

    rows = table(page, "conditions")
    masr = {(row["method"], row["condition"]): (row["rank"], row["mark"]) for row in rows if row["metric"] == "masr"}
    for condition in ("toy version 1; original data", "toy version 1; 5% harmful data"):
        assert masr["hpa", condition] == ("1", "best")
        assert masr["seqft", condition] == ("2", "")
        assert masr["zero_shot", condition] == ("", "")
    assert len(masr) == 6
    assert "AP, original data | MASR, original data | AP, 5% harmful data" in (
        page.parent / "tables" / "conditions.md"
    ).read_text().replace(" ↑", "")
    assert "Across conditions" in Visible(page).text


@pytest.mark.slow
def test_equal_methods_share_a_rank(tmp_path):
    runs = []
    for place, ratio in (("clean", 0.0), ("harmful", 0.05)):
        for name, method in (("a", "one"), ("b", "two")):
            run = write_run(tmp_path / place / name, "hpa", harmful_ratio=ratio)
            rewrite_manifest(run, method=method)
            runs.append(run)

    rows = table(report_of(runs, tmp_path / "report"), "conditions")

    assert {row["rank"] for row in rows} == {"1"} and {row["mark"] for row in rows} == {""}


@pytest.mark.slow
def test_the_form_of_responses_stands_beside_accuracy(tmp_path):
    runs = [write_run(tmp_path / "runs", seed=seed) for seed in (0, 1)]
    for run in runs:
        write_forms(run)
    old = write_run(tmp_path / "runs", "seqft")  # Of a version that knew of no form.
    page = report_of([*runs, old], tmp_path / "out")

    rows = [row for row in table(page, "results") if row["metric"] in ("mif", "in_form")]
    found = {(row["method"], row["set"]): row for row in rows}
    shares = {
        name: 100 * np.mean([[row["in_form"] for row in run.stage(3).responses(name)] for run in runs])
        for name in TASKS[:2]
    }
    assert {name: float(found["hpa", name]["value"]) for name in shares} == pytest.approx(shares, abs=1e-3)
    assert float(found["hpa", "all"]["value"]) == pytest.approx(np.mean(list(shares.values())), abs=1e-3)
    assert found["hpa", "all"]["metric"] == "mif" and found["seqft", "all"]["missing"] == "not defined"
    staged = [row for row in table(page, "stages") if row["metric"] == "in_form" and row["method"] == "hpa"]
    assert [(row["stage"], row["set"]) for row in staged] == [
        (str(stage), name) for stage in range(4) for name in shares
    ]
    seqft, hpa = (part.partition("</table>")[0] for part in page.read_text().split('class="table matrix"')[1:])
    assert seqft.count("<small>") == 0 and hpa.count("<small>") == 4 * len(shares)
    assert [f"<small>{share:.0f}</small>" in hpa for share in shares.values()] == [True, True]
