"""Trackers as they are, written to and read back; what is not installed is left out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench import run
from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.files import read_json
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.events import LOG, read_log
from hpa_bench.runner.trackers import Tracking, check_tracker, stage_values
from tests.support.suites import write_suite

STEPS = 6
"""Of both stages of the small suite."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_suite(tmp_path_factory.mktemp("suite"), cpu_threads=1))


def losses(made: RunFolder) -> list[float]:
    return [float(row["loss"]) for row in read_log(made.path / LOG) if row["event"] == "step"]  # type: ignore[arg-type]


def accuracies(made: RunFolder, task: str) -> list[float]:
    rows = [read_json(made.stage(index).path / "scores.json") for index in range(3)]
    return [row["value"] for stage in rows for row in stage if (row["set"], row["metric"]) == (task, "accuracy")]


@pytest.mark.slow
def test_tensorboard_has_every_step_and_every_stage(suite: str, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    out = tmp_path / "runs" / "small" / "seqft-1" / "seed0"
    made = run(suite, "seqft", out=out, device="cpu", observers=[Tracking(f"tensorboard:folder={tmp_path / 'board'}")])

    board = reader.EventAccumulator(str(tmp_path / "board" / "small" / "seqft-1" / "seed0"))
    board.Reload()
    seen = {tag: [(found.step, found.value) for found in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    assert [step for step, _ in seen["train/loss"]] == list(range(1, STEPS + 1))
    assert [value for _, value in seen["train/loss"]] == pytest.approx(losses(made), rel=1e-6)
    assert {"train/learning_rate", "train/samples_per_second", "safety/masr/all/keyword", "seconds/train"} <= {*seen}
    assert [step for step, _ in seen["task/accuracy/shades"]] == [0, 3, 6]
    assert [value for _, value in seen["task/accuracy/shades"]] == pytest.approx(accuracies(made, "shades"))
    (told,) = (tmp_path / "board" / "small" / "seqft-1" / "seed0").glob("*/hparams.yml")
    assert "method: seqft" in told.read_text() and "training.batch_size: 4" in told.read_text()


@pytest.mark.slow
def test_trackio_has_one_run_a_run_grouped_by_suite(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio", reason="no trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    asked = ["compare", "--suite", suite, "--methods", "seqft,zero_shot", "--seeds", "0", "--jobs", "1"]
    asked += ["--device", "cpu", "--runs", str(tmp_path / "runs"), "--track", "trackio:project=mine"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output

    made = {log.parent.parent.name: RunFolder(log.parent) for log in tmp_path.glob(f"runs/small/*/*/{LOG}")}
    read = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as S; runs = S.get_runs('mine');"
        "print(json.dumps({name: [S.get_run_config('mine', name), S.get_logs('mine', name)] for name in runs}))"
    )
    text = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True).stdout
    found = json.loads(text.strip().splitlines()[-1])
    assert {*found} == {f"{name}/seed0" for name in made}
    assert {config["_Group"] for config, _ in found.values()} == {"small"}
    name = next(name for name in made if name.startswith("seqft-"))
    logs = found[f"{name}/seed0"][1]
    assert [row["train/loss"] for row in logs if "train/loss" in row] == pytest.approx(losses(made[name]))
    assert [row["task/accuracy/shades"] for row in logs if "seconds/generate" in row] == accuracies(
        made[name], "shades"
    )


@pytest.mark.slow
def test_a_tracker_that_fails_ends_nothing(suite: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboard", reason="no tensorboard")
    (tmp_path / "file").touch()
    tracker = Tracking(f"tensorboard:folder={tmp_path / 'file'}")
    made = run(suite, "zero_shot", out=tmp_path / "run", device="cpu", observers=[tracker])

    assert len(made.finished_stages()) == 1 and "The observer Tracking failed" in caplog.text
    assert stage_values(made, 0)["stage"] == 0.0


def test_a_tracker_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"Unknown tracker 'tensorbord' in --track\. Did you mean 'tensorboard'\?"):
        check_tracker("tensorbord")


def test_one_that_is_not_installed_is_refused_before_anything_runs(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpa_bench.runner.trackers.find_spec", lambda name: None)
    arguments = ["compare", "--suite", suite, "--track", "comet_ml", "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, arguments)

    assert isinstance(done.exception, UserError) and not (tmp_path / "runs").exists()
    assert str(done.exception) == "Tracker 'comet_ml' is not installed: run `pip install comet-ml`."
