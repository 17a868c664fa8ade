"""Turns of a model on a simulated GPU and the real vLLM, which runs on the CPU, where its sleep frees nothing."""

import gc
import logging
import os
import signal

import pytest
import torch

import hpa_bench
from hpa_bench.engines.vllm import VLLMEngine
from hpa_bench.engines.vllm_client import VLLMClient
from hpa_bench.runner.events import Event, Generating, Observer, StageStarted, TrainStep
from tests.support.real_vllm import needs_vllm, stored
from tests.support.simulated_gpu import simulated_gpu

pytestmark = needs_vllm
SETTINGS = ["tasks=[tiny_ad, tiny_fin]", "training.limit=32", "training.epochs=1"]
SETTINGS += ["evaluation.limit=6", "lora.rank=16"]


class Bytes(Observer):
    """Notes how much lies on the GPU whenever an event of some kind happens."""

    def __init__(self) -> None:
        self.at: dict[str, list[int]] = {}

    def observe(self, event: Event) -> None:
        self.at.setdefault(event.kind, []).append(on_gpu())


def on_gpu() -> int:
    gc.collect()  # what only a cycle still holds is not in use
    return torch.cuda.memory_allocated()


@pytest.mark.parametrize(("method", "dies"), [("hpa", False), ("resta", True)])
def test_model_and_engine_take_turns_and_say_what_hugging_face_says(
    method, dies, tmp_path, vllm_on_cpu, monkeypatch, caplog
):
    used, asleep, watch = {"start": [], "load": []}, [], Bytes()

    def note(where, what):
        action = getattr(where, what)

        def noting(*arguments, **keywords):
            used[what].append(on_gpu())
            return action(*arguments, **keywords)

        monkeypatch.setattr(where, what, noting)

    def release(engine):
        if dies:
            os.kill(engine.client.processes[0].pid, signal.SIGKILL)
        released(engine)
        asleep.append(engine.client.asleep)

    released = VLLMEngine.release
    monkeypatch.setattr(VLLMEngine, "release", release)
    note(VLLMClient, "start")
    note(VLLMEngine, "load")
    settings = [*SETTINGS, "training.dtype=float32", "training.workers=0"]
    with simulated_gpu(), caplog.at_level(logging.WARNING, logger="hpa_bench"):
        hf = hpa_bench.run(method=method, settings=settings, engine="hf", out=tmp_path / "hf", device="cuda")
        vllm = hpa_bench.run(
            method=method, settings=settings, engine="vllm", out=tmp_path / "vllm", device="cuda", observers=[watch]
        )

    assert stored(vllm) == stored(hf)
    model = used["load"][0]
    assert model > 5e6 and used["load"] == [model] * 3, "only the model is on the GPU when a stage's turn comes"
    assert watch.at[StageStarted.kind] == [model] * 3, "and it is back before the next stage"
    # In float32 the adapter takes a ninth of the model, and Adam's two moments twice that.
    assert all(1.2 * model < bytes_ < 1.5 * model for bytes_ in watch.at[TrainStep.kind]), "it trains with an adapter"
    assert len(watch.at[TrainStep.kind]) == 4
    assert set(watch.at[Generating.kind]) == {0}, "and nothing is there, while the engine is awake"
    assert used["start"] == [0] * (3 if dies else 1) and asleep == [not dies] * 3
    said = [record.getMessage() for record in caplog.records if record.name == "hpa_bench.engines.vllm_client"]
    assert len(said) == (3 if dies else 0) and all("it will be started again" in line for line in said)
