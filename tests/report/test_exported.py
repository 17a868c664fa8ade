"""CSV and Parquet of runs: the numbers of `load_runs`, every sample, and no text of a safety set unasked."""

import json
from pathlib import Path

import pandas as pd
import pytest

from hpa_bench import load_runs
from hpa_bench.report.exported import exported_name, sample_rows, write_csv, write_parquet
from hpa_bench.results.runs import Run, read_runs
from tests.support.run_folders import BENIGN, SAFETY, TASKS, write_forms, write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    folders = [write_run(tmp_path / "runs", seed=seed, categories=True, shuffle=True) for seed in (0, 1)]
    write_forms(folders[0])
    return read_runs(folders)


def test_parquet_holds_every_number_of_load_runs(runs: list[Run], tmp_path: Path) -> None:
    write_parquet(runs, tmp_path / "out", show_unsafe=True)

    read = pd.read_parquet(tmp_path / "out" / "results.parquet")
    pd.testing.assert_frame_equal(read, load_runs(tmp_path / "runs"))


def test_csv_holds_what_parquet_holds(runs: list[Run], tmp_path: Path) -> None:
    write_csv(runs, tmp_path, show_unsafe=True)
    write_parquet(runs, tmp_path, show_unsafe=True)

    for name in ("results", f"samples/{exported_name(runs[0])}"):
        frame = pd.read_parquet(tmp_path / f"{name}.parquet")
        text = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=[""])
        assert text.columns.tolist() == frame.columns.tolist() and len(text) == len(frame)
        number = "value" if name == "results" else "score"
        pd.testing.assert_series_equal(text[number], frame[number], rtol=1e-12)


def test_samples_give_the_numbers_again(runs: list[Run], tmp_path: Path) -> None:
    write_parquet(runs, tmp_path)
    samples = pd.read_parquet(tmp_path / "samples" / f"{exported_name(runs[1])}.parquet")
    results = pd.read_parquet(tmp_path / "results.parquet")

    own = results[(results["seed"] == 1) & (results["stage"] == 3) & (results["set"] == TASKS[0])]
    last = samples[(samples["stage"] == 3) & (samples["set"] == TASKS[0])]
    assert 100 * last["score"].mean() == pytest.approx(own[own["metric"] == "accuracy"]["value"].item())
    unsafe = samples[(samples["stage"] == 3) & (samples["set"] == SAFETY[0])]
    complied = unsafe["verdicts"].map(lambda text: json.loads(text)["toy_compliance"] == "complied").mean()
    asked = results[(results["seed"] == 1) & (results["stage"] == 3) & (results["set"] == SAFETY[0])]
    told = asked[(asked["metric"] == "complied") & (asked["judge"] == "toy_compliance")]["value"].item()
    assert 100 * complied == pytest.approx(told)


def test_texts_of_safety_sets_are_withheld_unless_asked_for(runs: list[Run]) -> None:
    hidden, shown = (sample_rows(runs[0], 1, SAFETY[0], show) for show in (False, True))

    assert {row[key] for row in hidden for key in ("category", "prompt", "target", "response")} == {None}
    assert [row["id"] for row in hidden] == [str(index) for index in range(len(hidden))]
    assert [row["verdicts"] for row in hidden] == [row["verdicts"] for row in shown]
    assert {row["category"] for row in shown} == {"fraud", "privacy", "violence"}
    assert all(row["prompt"] for row in sample_rows(runs[0], 1, BENIGN[0], False))


def test_numbers_by_category_go_with_the_texts(runs: list[Run], tmp_path: Path) -> None:
    write_parquet(runs, tmp_path / "hidden")
    write_parquet(runs, tmp_path / "shown", show_unsafe=True)

    hidden, shown = (pd.read_parquet(tmp_path / name / "results.parquet") for name in ("hidden", "shown"))
    assert set(shown["metric"]) - set(hidden["metric"]) == {"category_asr", "category_change"}
