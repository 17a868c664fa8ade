"""Whole runs on a simulated GPU: they compute what a CPU computes, go on where they stopped, and leave it to an engine.

What every method may hold there is in tests/baselines/test_contract.py.
"""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.hpa import HPA
from hpa_bench.method import methods
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.alignment import Alignment, align
from hpa_bench.runner.events import Event, Observer, TrainStep
from tests.support.simulated_gpu import SimulatedGPU, simulated_gpu
from tests.support.suites import write_suite

FLOAT32 = "training.dtype=float32"


class Stop(BaseException):
    """Stands for whatever ends a run."""


class StopAt(Observer):
    """Ends a run in the middle of training a stage."""

    def __init__(self, step: int) -> None:
        self.at = step

    def observe(self, event: Event) -> None:
        if isinstance(event, TrainStep) and event.done == self.at:
            raise Stop


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(
        write_suite(
            tmp_path_factory.mktemp("suite"),
            aligned=True,
            calibration={"safety_set": "refusals", "task_samples": 6},
            training={"learning_rate": 1e-2, "batch_size": 3, "epochs": 1, "save_steps": 2, "workers": 0},
        )
    )


@pytest.fixture
def gpu() -> Iterator[SimulatedGPU]:
    with simulated_gpu() as gpu:
        yield gpu
        gc.collect()
        assert gpu.used == 0, "nothing outlives a run"


def weights(done: RunFolder, stage: int) -> dict[str, torch.Tensor]:
    return load_file(done.stage(stage).weights / "model.safetensors")


@pytest.mark.slow
def test_a_run_computes_what_it_computes_on_a_cpu(suite: str, tmp_path: Path) -> None:
    on_cpu = run(suite, "hpa", settings=[FLOAT32], out=tmp_path / "cpu", device="cpu")
    with simulated_gpu():
        on_gpu = run(suite, "hpa", settings=[FLOAT32], out=tmp_path / "gpu", device="cuda")

    ours, theirs = weights(on_gpu, 2), weights(on_cpu, 2)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    for stage in range(3):
        for task in ("colours", "shades", "harm", "harmless"):
            assert on_gpu.stage(stage).responses(task) == on_cpu.stage(stage).responses(task)
    assert [done.manifest.hardware.device for done in (on_gpu, on_cpu)] == ["simulated GPU", "cpu"]


@pytest.mark.slow
def test_a_gpu_is_found_and_trains_in_bfloat16(suite: str, tmp_path: Path, gpu: SimulatedGPU) -> None:
    class Watched(HPA):
        """HPA, whose wrapped model is looked at in training."""

        name = "watched"
        seen: ClassVar[set[tuple[str, bool, torch.dtype]]] = set()

        def penalty(self, model: torch.nn.Module, batch: Any, outputs: Any) -> None:
            self.seen.update((one.device.type, one.requires_grad, one.dtype) for one in model.parameters())

    methods.add(Watched, "watched")
    done = run(suite, "watched", out=tmp_path / "run")

    assert done.manifest.hardware.device == "simulated GPU"
    assert Watched.seen == {("cuda", False, torch.bfloat16), ("cuda", True, torch.float32)}, "adapters train in float32"
    assert all(tensor.dtype == torch.float32 for tensor in weights(done, 2).values()), "as the checkpoint has them"


@pytest.mark.slow
def test_a_run_that_was_stopped_in_training_ends_like_an_unbroken_one(
    suite: str, tmp_path: Path, gpu: SimulatedGPU, caplog: pytest.LogCaptureFixture
) -> None:
    unbroken = run(suite, "ewc", out=tmp_path / "unbroken")
    with pytest.raises(Stop):
        run(suite, "ewc", out=tmp_path / "broken", observers=[StopAt(3)])
    with caplog.at_level("INFO"):
        broken = run(suite, "ewc", out=tmp_path / "broken")

    assert "training goes on from checkpoint-2" in caplog.text
    for stage in (1, 2):
        for task in ("colours", "shades", "harm", "harmless"):
            assert broken.stage(stage).responses(task) == unbroken.stage(stage).responses(task)
    ours, theirs = weights(broken, 2), weights(unbroken, 2)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_full_gpu_is_one_sentence_and_the_same_run_goes_on_in_less(suite: str, tmp_path: Path) -> None:
    def train(name: str, recomputing: str) -> RunFolder:
        settings = [
            "training.batch_size=12",
            f"training.gradient_checkpointing={recomputing}",
            "tasks=[colours]",
            "evaluation.batch_size=1",
            "evaluation.limit=2",
        ]
        return run(suite, "seqft", settings=settings, out=tmp_path / name)

    with simulated_gpu():
        peaks = [train(name, name).stage(1).cost["peak_memory_bytes"] for name in ("true", "false")]
    with simulated_gpu(sum(peaks) // 2):
        with pytest.raises(UserError, match=r"full in the training of stage 1 \(colours\): go on with .*checkpointing"):
            train("run", "false")
        stopped = RunFolder(tmp_path / "run")
        assert len(stopped.finished_stages()) == 1 and "memory is full" in (stopped.path / "FAILED").read_text()
        assert len(train("run", "true").finished_stages()) == 2


@pytest.mark.parametrize(
    ("capacity", "sentence"),
    [(50_000, "full in loading .*model: nvidia-smi"), (150_000, "full in the responses of stage0")],
)
def test_a_gpu_that_is_too_small_is_one_sentence(capacity: int, sentence: str, suite: str, tmp_path: Path) -> None:
    with simulated_gpu(capacity), pytest.raises(UserError, match=sentence):
        run(suite, "seqft", out=tmp_path / "run")


@pytest.mark.slow
def test_an_aligned_model_is_made_on_it(suite: str, tmp_path: Path, gpu: SimulatedGPU) -> None:
    folder = Path(suite).parent
    options: dict[str, Any] = {"include_paths": [folder / "tasks"], "settings": ["training.epochs=2", "lora.rank=2"]}
    align(Alignment(model=str(folder / "model"), data=["refusals"], out=tmp_path / "aligned", **options))

    manifest = json.loads((tmp_path / "aligned" / "alignment.json").read_text())
    assert manifest["hardware"]["device"] == "simulated GPU"
    before, after = (load_file(at / "model.safetensors") for at in (folder / "model", tmp_path / "aligned"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_gpu_that_is_asked_for_and_is_not_there_is_refused(suite: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finds no GPU here"):
        run(suite, "hpa", out=tmp_path / "run", device="cuda")
