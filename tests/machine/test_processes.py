"""Runs of two real processes on the CPU, as `accelerate launch` starts them on two GPUs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.machine.lease import holder_of
from hpa_bench.results.run_folder import LEASE, RunFolder
from hpa_bench.runner.training import share_of_step
from hpa_bench.suite import TrainingConfig
from tests.support import fails_elsewhere
from tests.support.suites import write_suite

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--main_process_port", "0", "-m", "hpa_bench", "run", "--device", "cpu", "--no-report"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 4, "save_steps": 1, "dtype": "float32"}
    calibration = {"safety_set": "refusals", "safety_samples": 4, "task_samples": 6}
    return write_suite(tmp_path_factory.mktemp("suite"), aligned=True, training=training, calibration=calibration)


def launch(suite: Path, out: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [*LAUNCH, "--suite", str(suite), "--out", str(out), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if not path.name.startswith(f"{LEASE}-")}


def assert_close_weights(ours: RunFolder, theirs: RunFolder, start: Path, stage: int) -> None:
    """Whatever changed, changed alike: what is left of the difference is rounding."""
    before = load_file(start / "model.safetensors")
    one, two = (load_file(run.stage(stage).weights / "model.safetensors") for run in (ours, theirs))
    update = torch.cat([(one[name] - before[name]).flatten() for name in before])
    rest = torch.cat([(one[name] - two[name]).flatten() for name in before])
    assert rest.norm() < 1e-3 * update.norm()


@pytest.mark.slow
def test_an_engine_of_one_process_is_refused_before_anything_is_read(suite: Path, tmp_path: Path) -> None:
    engine = tmp_path / "alone.py"
    engine.write_text(
        "from hpa_bench import Engine\n\n\n"
        "class Alone(Engine):\n"
        "    name = 'alone'\n\n"
        "    def generate(self, requests, on_progress=None):\n"
        "        raise AssertionError\n"
    )
    arguments = ("--method", "seqft", "--plugin", str(engine), "--engine", "alone")
    launched = launch(suite, tmp_path / "run", *arguments)
    _, said = launched.communicate(timeout=120)

    assert launched.returncode != 0
    assert said.count("evaluation.engine=alone generates in one process only and 2 were launched") == 1
    assert not (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.slow
def test_two_processes_killed_and_launched_again_end_like_one(suite: Path, tmp_path: Path) -> None:
    one = run(str(suite), "hpa", out=tmp_path / "one")
    two = RunFolder(tmp_path / "two")

    launched = launch(suite, two.path, "--method", "hpa")
    while launched.poll() is None and not any(two.path.glob("stage2/trainer.partial/checkpoint-*/WHOLE")):
        time.sleep(0.001)
    holder = holder_of(two.path / LEASE)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert launched.wait(30) != 0
    assert len(two.finished_stages()) == 2 and not two.stage(2).adapter.exists(), "killed too late"
    shutil.copytree(two.path, tmp_path / "goes on as one")
    launched = launch(suite, two.path, "--method", "hpa")
    output, errors = launched.communicate(timeout=120)

    assert launched.returncode == 0, errors
    assert files(two.path) == files(one.path)
    assert output.count("Run:") == 1, "the first process alone speaks"
    assert (one.manifest.hardware.processes, two.manifest.hardware.processes) == (1, 2)
    assert two.stage(2).cost["steps"] == one.stage(2).cost["steps"] == 12
    assert_close_weights(one, two, suite.parent / "model", 2)
    assert_close_weights(one, run(str(suite), "hpa", out=tmp_path / "goes on as one"), suite.parent / "model", 2)
    for name in ("colours", "shades", "harm", "harmless"):
        assert two.stage(0).responses(name) == one.stage(0).responses(name), "in their order, all of them"
        assert len(two.stage(2).responses(name)) == len(one.stage(2).responses(name))


@pytest.mark.slow
def test_two_processes_replay_in_a_step_what_one_replays(suite: Path, tmp_path: Path) -> None:
    one = run(str(suite), "derpp", settings=["alpha=3", "beta=3"], out=tmp_path / "one")
    two = RunFolder(tmp_path / "two")
    launched = launch(suite, two.path, "--method", "derpp", "--set", "alpha=3", "--set", "beta=3")
    _, errors = launched.communicate(timeout=300)

    assert launched.returncode == 0, errors
    assert_close_weights(one, two, suite.parent / "model", 2)


@pytest.mark.slow
def test_two_processes_begin_a_noise_run_as_one_does(suite: Path, tmp_path: Path) -> None:
    settings = ["tasks=[colours]", "training.learning_rate=0", "training.keep_weights=true"]
    one = run(str(suite), "seqft", noise=2, out=tmp_path / "one", settings=settings)
    two = tmp_path / "two"
    arguments = [part for setting in settings for part in ("--set", setting)]
    launched = launch(suite, two, "--method", "seqft", "--noise", "2", *arguments)

    assert launched.wait(timeout=300) == 0
    ours, theirs = (load_file(each / "stage1/adapter/adapter_model.safetensors") for each in (one.path, two))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_one_process_that_fails_ends_both_with_its_sentence_once(suite: Path, tmp_path: Path) -> None:
    one = run(str(suite), "seqft", out=tmp_path / "one", settings=["tasks=[colours]"])
    plugin = ["--plugin", fails_elsewhere.__file__, "--method", "fails_elsewhere"]

    launched = launch(suite, tmp_path / "two", *plugin, NOTES=str(tmp_path))
    _, errors = launched.communicate(timeout=120)
    seconds = time.time() - float((tmp_path / "failed").read_text())

    assert launched.returncode != 0
    assert seconds < 60, "torch.distributed alone would wait for half an hour"
    assert errors.count(fails_elsewhere.SENTENCE) == 1
    two = RunFolder(tmp_path / "two")
    assert (two.path / "FAILED").read_text() == fails_elsewhere.SENTENCE
    assert len(two.finished_stages()) == 2
    # The first process may be ended before it notes the step at which the second fails.
    first, second = ([line.split() for line in (tmp_path / rank).read_text().splitlines()][:14] for rank in "01")
    assert len(first) == len(second) == 14
    assert [adapter for adapter, _ in first] == [adapter for adapter, _ in second]
    assert len({adapter for adapter, _ in first}) > 10, "it trains"
    same = [batch == other for (_, batch), (_, other) in zip(first, second, strict=True)]
    assert sum(same) < len(same) / 3, "each trains on its own samples; some look alike"
    assert_close_weights(one, two, suite.parent / "model", 1)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "processes", "expected"),
    [(16, 1, 1, (16, 1)), (16, 1, 2, (8, 1)), (16, 8, 8, (16, 1)), (4, 3, 2, (3, 2)), (6, 4, 3, (4, 2))],
)
def test_a_step_takes_the_same_samples_however_many_processes_share_them(
    batch_size: int, accumulation: int, processes: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    size, steps = share_of_step(TrainingConfig(batch_size=batch_size, gradient_accumulation=accumulation))

    assert (size, steps) == expected
    assert size * steps * processes == batch_size * accumulation


def test_samples_that_cannot_be_shared_equally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")

    with pytest.raises(UserError, match="3 processes cannot share the 8 samples of an optimiser step"):
        share_of_step(TrainingConfig(batch_size=4, gradient_accumulation=2))


def test_compare_cannot_be_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from hpa_bench.cli import app

    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(app, ["compare", "--runs", str(tmp_path)])

    assert isinstance(result.exception, UserError) and "cannot be launched as 2 processes" in str(result.exception)


@pytest.mark.slow
def test_two_processes_align_like_one(suite: Path, tmp_path: Path) -> None:
    arguments = ["align", "--device", "cpu", "--model", str(suite.parent / "unaligned"), "--data", "refusals"]
    arguments += ["--include-path", str(suite.parent / "tasks"), "--set", "training.batch_size=4"]
    alone = [sys.executable, "-m", "hpa_bench", *arguments, "--out", str(tmp_path / "one")]
    shared = [*LAUNCH[: LAUNCH.index("run")], *arguments, "--out", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}

    for command in (alone, shared):
        subprocess.run(command, env=environment, check=True, capture_output=True)

    before = load_file(suite.parent / "unaligned" / "model.safetensors")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    update = torch.cat([(one[name] - before[name]).flatten() for name in before])
    rest = torch.cat([(one[name] - two[name]).flatten() for name in before])
    assert update.norm() > 0 and rest.norm() < 1e-3 * update.norm()
    assert files(tmp_path / "one") == files(tmp_path / "two") and not (tmp_path / "two.unfinished").exists()
