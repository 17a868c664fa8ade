"""Bad input: one sentence that says what and where, before anything is trained, and nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_bench.api import run
from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from tests.support.lmeval_tasks import row, rows, write_task
from tests.support.suites import write_suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"))


def refused(suite: Path, out: Path, **options: object) -> str:
    """Run seqft, expect it to be refused before it trains, and return the sentence."""
    with pytest.raises(UserError) as caught:
        run(str(suite), "seqft", out=out, **options)  # type: ignore[arg-type]
    assert not list(out.glob("stage*")), "something was run"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_command_line_prints_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hpa_bench", "run", "--method", "seqtf", "--out", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.returncode == 2
    assert result.stderr.startswith("Error: Unknown method 'seqtf'. Did you mean 'seqft'?")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_model_folder(tmp_path: Path) -> None:
    path = write_suite(tmp_path, model="./nowhere")

    assert f"The model folder {path.parent}/nowhere of suite 'small' does not exist" in refused(path, tmp_path / "run")


def test_a_model_folder_without_a_model(tmp_path: Path) -> None:
    path = write_suite(tmp_path, model="./tasks")

    assert "is no checkpoint of an image-text-to-text model" in refused(path, tmp_path / "run")


@pytest.mark.slow
def test_a_missing_task(tmp_path: Path) -> None:
    path = write_suite(tmp_path, tasks=["colours", "shadez"])
    message = refused(path, tmp_path / "run")

    assert "Unknown task 'shadez'" in message and "Did you mean 'shades'?" in message


def test_a_task_without_a_training_split(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    write_task(tmp_path / "tasks", "shades", {"test": rows(4)})
    message = refused(path, tmp_path / "run")

    assert "Task 'shades'" in message and "shades.yaml" in message and "has no training split" in message


def test_an_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    image = tmp_path / "tasks" / "green.png"
    image.write_bytes(image.read_bytes()[:60])
    message = refused(path, tmp_path / "run")

    assert "cannot be decoded" in message and "green.png" in message and "task 'colours'" in message


def test_a_sample_without_an_answer(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    write_task(tmp_path / "tasks", "shades", {"train": [row(0), row(7, answer="")], "test": rows(3)})

    assert "Sample 'r7' in the training split of task 'shades' has no answer" in refused(path, tmp_path / "run")


def test_duplicate_sample_ids(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    write_task(tmp_path / "tasks", "shades", {"train": rows(3), "test": [row(1), row(2), row(1)]})

    assert "Sample id 'r1' stands twice in the test split of task 'shades'" in refused(path, tmp_path / "run")


def test_too_small_a_harmful_ratio(suite: Path, tmp_path: Path) -> None:
    message = refused(suite, tmp_path / "run", harmful_ratio=0.001)

    assert "is less than one sample: use at least 0.0833" in message


@pytest.mark.slow
def test_a_model_that_refuses_nothing_has_no_safety_calibration(tmp_path: Path) -> None:
    path = write_suite(tmp_path, calibration={"safety_set": "harm"})

    with pytest.raises(UserError, match="The aligned model refuses none of the 5 requests"):
        run(str(path), "hpa", out=tmp_path / "run")


def test_a_folder_that_a_live_run_holds(suite: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").locked():
        message = refused(suite, tmp_path / "run")

    assert f"in use by another run (process {os.getpid()} on " in message


@pytest.mark.slow
def test_a_folder_of_another_configuration_keeps_its_run(suite: Path, tmp_path: Path) -> None:
    first = run(str(suite), "seqft", out=tmp_path / "run")
    scores = (first.stage(2).path / "scores.json").read_bytes()

    with pytest.raises(UserError, match=r"another configuration: suite_config\.lora\.rank is 2 there and 3 here"):
        run(str(suite), "seqft", out=tmp_path / "run", settings=["lora.rank=3"])

    assert (first.stage(2).path / "scores.json").read_bytes() == scores


def test_data_that_changed_under_a_run(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    run(str(path), "zero_shot", out=tmp_path / "run")
    write_task(tmp_path / "tasks", "shades", {"train": rows(3), "test": rows(4)})

    with pytest.raises(UserError, match=r"another configuration: data\.shades is"):
        run(str(path), "zero_shot", out=tmp_path / "run")


def test_a_nan_loss_keeps_the_finished_stages_and_the_reason(suite: Path, tmp_path: Path) -> None:
    settings = ["training.learning_rate=1e30", "training.max_grad_norm=1e30"]

    with pytest.raises(UserError, match=r"loss became (nan|inf) at step \d+ of 3 in stage 1 \(colours\)"):
        run(str(suite), "seqft", out=tmp_path / "run", settings=settings)

    stopped = RunFolder(tmp_path / "run")
    assert len(stopped.finished_stages()) == 1
    assert "at step" in (tmp_path / "run" / "FAILED").read_text()


def test_every_verb_explains_itself() -> None:
    from typer.testing import CliRunner

    for verb in ("run", "compare", "judge", "report", "list", "validate"):
        result = CliRunner().invoke(app, [verb, "--help"])
        assert result.exit_code == 0 and "Usage" in result.output
