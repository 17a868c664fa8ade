"""What every engine does that says nothing of its own."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from hpa_bench.engines.base import Engine, EngineConfig, Progress, Request, engines
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.models.weights import Checkpoint
from tests.support.models import random_llava, save_random_llava


class Echo(Engine):
    """Answers with the prompt."""

    name = "echo"

    def __init__(self, model: object, processor: object, batch_size: int = 64) -> None:
        self.model, self.processor, self.batch_size = model, processor, batch_size

    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        return [request.prompt for request in requests]


def test_it_takes_weights_and_changes(tmp_path: Path) -> None:
    folder = save_random_llava(tmp_path, seed=1)
    model, processor = random_llava()
    engine: Engine = HFEngine(model, processor)
    checkpoint = Checkpoint(folder, model)
    name = "model.language_model.layers.0.mlp.up_proj.weight"

    engine.load(checkpoint, {name: checkpoint[name] + 1})

    state = model.state_dict()
    assert (state[name] == checkpoint[name] + 1).all()
    assert all((state[key] == tensor).all() for key, tensor in checkpoint.items() if key != name)


def test_a_run_gives_it_the_model_and_its_batch_size(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    engine = Echo.for_run("model", "processor", batch_size=3, config=EngineConfig(), folder=folder)

    assert (engine.model, engine.processor, engine.batch_size) == ("model", "processor", 3)
    assert not folder.exists()


def test_it_opens_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    folder = save_random_llava(tmp_path, seed=1)

    engine = Echo.open(folder, device="cpu", dtype="float32", batch_size=5)

    checkpoint = Checkpoint(folder, engine.model)
    assert engine.batch_size == 5
    assert all((engine.model.state_dict()[name] == tensor).all() for name, tensor in checkpoint.items())
    with pytest.raises(UserError):
        Echo.open(tmp_path / "nowhere", device="cpu")


def test_requests_are_told_apart_though_they_ask_the_same() -> None:
    one, other = Request("what is this ?"), Request("what is this ?")

    assert one != other and len({one, other, one}) == 2


def test_options_are_frozen_and_unknown_ones_refused() -> None:
    with pytest.raises(ValidationError, match="speed"):
        EngineConfig.model_validate({"speed": 1})
    options = engines.get("vllm").Config()
    with pytest.raises(ValidationError, match="frozen"):
        options.tensor_parallel_size = 2  # type: ignore[attr-defined]
