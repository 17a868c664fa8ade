"""What is shared out among processes, in a run of one; test_distributed runs two."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from hpa_bench.engines.base import Progress, Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.engines.sharded import ShardedEngine
from hpa_bench.models.weights import Checkpoint
from tests.support.models import random_llava, save_random_llava

NAME = "model.language_model.layers.0.mlp.up_proj.weight"


class Noting(HFEngine):
    """Notes what it is told beside generating."""

    def __init__(self) -> None:
        super().__init__(*random_llava())
        self.told: list[str] = []

    def release(self) -> None:
        self.told.append("release")

    def close(self) -> None:
        self.told.append("close")

    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        return [request.prompt for request in requests]


def test_weights_and_the_end_go_to_the_engine_that_generates(tmp_path: Path) -> None:
    inner = Noting()
    sharded = ShardedEngine(inner)
    checkpoint = Checkpoint(save_random_llava(tmp_path, seed=1), inner.model)

    sharded.load(checkpoint, {NAME: checkpoint[NAME] + 1})
    sharded.release()
    sharded.close()

    state = inner.model.state_dict()
    assert (state[NAME] == checkpoint[NAME] + 1).all()
    assert all((state[key] == tensor).all() for key, tensor in checkpoint.items() if key != NAME)
    assert inner.told == ["release", "close"]
    assert sharded.model is inner.model and sharded.processor is inner.processor


def test_a_process_generates_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpa_bench.engines.sharded.processes", lambda: 3)
    monkeypatch.setattr("hpa_bench.engines.sharded.rank", lambda: 1)
    requests = [Request(str(index)) for index in range(8)]

    assert ShardedEngine(Noting()).generate(requests) == ["1", "4", "7"]
