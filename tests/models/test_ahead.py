"""Reading a block ahead gives what the checkpoint has, holds two blocks, and lets no value pass that is none."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hpa_bench.errors import UserError
from hpa_bench.models.ahead import ReadAhead, Sound
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.weights import Checkpoint
from tests.support.models import random_llava, save_random_llava

LAYERS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_random_llava(tmp_path / "model", layers=LAYERS)


def read_ahead(folder: Path) -> tuple[Checkpoint, ReadAhead]:
    model, _ = random_llava(layers=LAYERS)
    checkpoint = Checkpoint(folder, model)
    return checkpoint, ReadAhead(Sound(checkpoint, "--before"), find_decoder(model))


def test_every_weight_is_the_checkpoints_in_any_order(folder: Path) -> None:
    checkpoint, ahead = read_ahead(folder)

    assert list(ahead) == list(checkpoint) and len(ahead) == len(checkpoint)
    for name in [*checkpoint, *reversed(list(checkpoint))]:
        assert name in ahead and torch.equal(ahead[name], checkpoint[name])


def test_a_change_of_what_was_given_is_nobody_elses(folder: Path) -> None:
    checkpoint, ahead = read_ahead(folder)
    name = next(name for name in checkpoint if "layers.0.mlp" in name and "vision" not in name)

    ahead[name].zero_()

    assert torch.equal(ahead[name], checkpoint[name])


def test_two_blocks_are_held_and_read_once_a_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ahead = read_ahead(folder)
    read: list[str] = []
    monkeypatch.setattr(Sound, "__getitem__", lambda self, name: read.append(name) or self._checkpoint[name])
    blocks = [[name for name in ahead if f"language_model.layers.{index}." in name] for index in range(LAYERS)]

    for names in blocks:
        for name in names:
            assert ahead[name].isfinite().all()
        assert len(ahead._held) <= 2
    for future in ahead._held.values():
        future.result()

    assert sorted(read) == sorted(name for names in [*blocks, blocks[0]] for name in names)


def test_a_value_that_is_none_is_named_with_its_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "layers.2.mlp.up_proj" in name)
    tensors[name][0, :3] = torch.inf
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _, ahead = read_ahead(folder)

    with pytest.raises(UserError, match=r"layers.2.mlp.up_proj.weight' of --before .* has 3 of \d+ values"):
        [ahead[each] for each in ahead]
