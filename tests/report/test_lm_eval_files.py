"""lm-eval's files of runs, read back by lm-eval's own functions, its own types and the loader that it uses."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from lm_eval.api.metrics import mean, mean_stderr
from lm_eval.result_schema import SampleResult
from lm_eval.utils import (
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
)

from hpa_bench.report.lm_eval_files import write_lm_eval
from hpa_bench.results.published import find_published
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import read_runs
from tests.support.published import publish_committed
from tests.support.run_folders import BENIGN, SAFETY, TASKS, write_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "runs", shuffle=True)


def written(out: Path, stage: int) -> tuple[dict[str, Any], dict[str, str]]:
    """A stage's results, and its sample files by task, found as lm-eval finds them."""
    files = [str(path) for path in out.rglob("*") if path.is_file() and path.parent.name.endswith(f"stage{stage}")]
    results = get_latest_filename(get_results_filenames(files))
    samples = {get_file_task_name(Path(file).name): file for file in get_sample_results_filenames(files)}
    return json.loads(Path(results).read_text(encoding="utf-8")), samples


def test_lm_eval_prints_its_table_of_them(run: RunFolder, tmp_path: Path) -> None:
    write_lm_eval(read_runs([run]), tmp_path / "out")
    results, samples = written(tmp_path / "out", 3)

    table = make_table(results)
    assert all(name in table for name in [*TASKS, *SAFETY, *BENIGN, "keyword", "toy_compliance", "bwt"])
    assert "ap" in make_table(results, "groups")
    measured = [key for key in read_runs([run])[0].measures if key.stage == 3]
    told = [name for of in results["results"].values() for name in of if "," in name and "_stderr," not in name]
    assert len(told) == len(measured)
    assert set(samples) == {*TASKS, *SAFETY, *BENIGN}


def test_values_and_errors_are_those_of_lm_evals_own_aggregation(run: RunFolder, tmp_path: Path) -> None:
    write_lm_eval(read_runs([run]), tmp_path / "out")
    results, samples = written(tmp_path / "out", 2)

    for name, metric, judge in [(TASKS[0], "accuracy", "none"), (SAFETY[1], "asr", "keyword")]:
        loaded = load_dataset("json", data_files=samples[name], split="train", cache_dir=str(tmp_path / "cache"))
        values = [row[metric] for row in loaded if row["filter"] == judge]
        assert len(values) == results["n-samples"][name]["effective"] == 40
        told = results["results"][name]
        assert told[f"{metric},{judge}"] == pytest.approx(mean(values))
        assert told[f"{metric}_stderr,{judge}"] == pytest.approx(mean_stderr(values))


def test_samples_have_every_key_of_lm_evals_type(run: RunFolder, tmp_path: Path) -> None:
    write_lm_eval(read_runs([run]), tmp_path / "out")
    row = json.loads(Path(written(tmp_path / "out", 1)[1][TASKS[1]]).read_text(encoding="utf-8").splitlines()[0])

    assert set(SampleResult.__annotations__) <= set(row)
    assert row["resps"] == [row["filtered_resps"]] and set(row["metrics"]) <= set(row)


def test_texts_of_safety_sets_are_withheld_unless_asked_for(run: RunFolder, tmp_path: Path) -> None:
    write_lm_eval(read_runs([run]), tmp_path / "hidden")
    write_lm_eval(read_runs([run]), tmp_path / "shown", show_unsafe=True)
    hidden, shown = (
        Path(written(tmp_path / name, 1)[1][SAFETY[0]]).read_text(encoding="utf-8") for name in ("hidden", "shown")
    )

    assert "Question" not in hidden and "cannot help" not in hidden and SAFETY[0] not in hidden
    assert "Question" in shown and "cannot help" in shown


def test_runs_without_texts_have_results_alone(tmp_path: Path) -> None:
    publish_committed(write_run(tmp_path / "runs", seed=1), tmp_path / "published")
    write_lm_eval(read_runs(find_published(tmp_path / "published")), tmp_path / "out")

    results, samples = written(tmp_path / "out", 3)
    assert results["config"]["random_seed"] == 1 and samples == {}
