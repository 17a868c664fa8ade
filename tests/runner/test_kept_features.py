"""Runs that keep image features: to the same bytes after a kill, with no room, and as no other run's."""

import signal
from pathlib import Path

import pytest

from hpa_bench.results.run_folder import RunFolder
from hpa_bench.spec import RunOptions, make_spec
from tests.support.interruptions import run_process
from tests.support.suites import write_suite

TRAINING = {"learning_rate": 1e-2, "batch_size": 3, "epochs": 1, "save_steps": 2}
HPA = ["calibration.safety_set=refusals", "calibration.task_samples=6", "image_features.keep=true"]


@pytest.mark.slow
def test_a_killed_run_and_one_without_room_end_with_the_same_bytes(tmp_path: Path) -> None:
    suite = str(write_suite(tmp_path, aligned=True, tasks=["colours", "shades"], training=TRAINING))

    assert run_process(None, 1, suite, "hpa", out=tmp_path / "whole", settings=HPA, device="cpu") == 0
    killed = {"out": tmp_path / "killed", "settings": HPA, "device": "cpu"}
    assert run_process("training", 2, suite, "hpa", **killed) == -signal.SIGKILL
    # Nothing that it kept is left; and what goes on keeps none.
    killed["settings"] = [*HPA, "image_features.mebibytes=1"]
    assert run_process(None, 2, suite, "hpa", **killed) == 0

    whole, resumed = (RunFolder(tmp_path / name) for name in ("whole", "killed"))
    for kind in ("weights/model.safetensors", "responses/colours.jsonl", "responses/shades.jsonl"):
        found = [(run.stage(2).path / kind).read_bytes() for run in (whole, resumed)]
        assert found[0] == found[1], kind


def test_keeping_makes_another_run_and_room_does_not() -> None:
    def identity(*settings: str) -> object:
        return make_spec(RunOptions("tiny", "seqft", settings=settings), model=False).identity()

    assert identity("image_features.mebibytes=7") == identity()
    assert identity("image_features.keep=true") != identity("image_features.keep=false")
