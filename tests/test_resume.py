"""Real runs in real processes, killed with SIGKILL at several points."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpa_bench.results.run_folder import RunFolder

SMALL = [
    "tasks=[tiny_ad, tiny_fin]",
    "training.limit=64",
    "training.epochs=1",
    "training.save_steps=2",
    "evaluation.limit=6",
    "calibration.task_samples=16",
]
POINTS = (
    "stage0/responses/*.jsonl",
    "stage1/trainer.partial/checkpoint-2/trainer_state.json",
    "stage1/adapter",
    "stage1/weights.partial",
    "stage1/weights",
    "stage2/trainer.partial/checkpoint-*",
    "stage2/responses/tiny_ad.jsonl",
)
"""A run is killed as soon as one of these is there, and started again."""


def start(method: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hpa_bench", "run", "--method", method, "--out", str(folder), "--no-report"]
    command += [part for setting in SMALL for part in ("--set", setting)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def contents(folder: Path) -> dict[str, bytes]:
    files = [
        *folder.glob("stage*/scores.json"),
        *folder.glob("stage*/responses/*"),
        *folder.glob("stage*/judgements/*/*"),
    ]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.faults
@pytest.mark.parametrize("method", ["hpa"])
def test_a_killed_run_ends_like_an_unbroken_one(method: str, tmp_path: Path) -> None:
    assert start(method, tmp_path / "unbroken").wait() == 0

    broken = tmp_path / "broken"
    killed = 0
    for point in POINTS:
        process = start(method, broken)
        while process.poll() is None and not any(broken.glob(point)):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert start(method, broken).wait() == 0

    assert killed >= len(POINTS) - 1, "the run was too fast to be killed where it should have been"
    assert len(RunFolder(broken).finished_stages()) == 3
    assert contents(broken) == contents(tmp_path / "unbroken")
    weights = "stage2/weights/model.safetensors"
    assert (broken / weights).read_bytes() == (tmp_path / "unbroken" / weights).read_bytes()


@pytest.mark.faults
def test_only_the_last_weights_are_kept(tmp_path: Path) -> None:
    assert start("seqft", tmp_path / "run").wait() == 0

    assert [folder.parent.name for folder in (tmp_path / "run").glob("stage*/weights")] == ["stage2"]
    assert not list((tmp_path / "run").rglob("*.partial"))
