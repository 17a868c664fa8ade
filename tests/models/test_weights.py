import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from hpa_bench.errors import UserError
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.weights import Checkpoint, Merged, Writer, load_into, write_checkpoint
from tests.support.models import random_llava, save_random_llava


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint(save_random_llava(tmp_path_factory.mktemp("model") / "llava"), random_llava()[0])


def trained_adapter(folder: Path) -> torch.nn.Module:
    """A peft model whose B is not zero, saved to `folder`."""
    model, _ = random_llava()
    targets = find_decoder(model).linear_layers
    torch.manual_seed(1)
    wrapped = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False))
    wrapped.save_pretrained(folder)
    return wrapped


def test_the_decoder_is_found_and_the_vision_tower_left_out() -> None:
    model, _ = random_llava(layers=3)
    found = find_decoder(model)

    assert [len(names) for names in found.layers] == [7, 7, 7]
    assert all(name.startswith(f"{found.prefix}.") for name in found.linear_layers)
    assert not any("vision" in name for name in found.linear_layers)


def test_merged_weights_equal_pefts_own_merge(checkpoint: Checkpoint, tmp_path: Path) -> None:
    wrapped = trained_adapter(tmp_path)
    merged = Merged(checkpoint, tmp_path)
    expected = wrapped.merge_and_unload().state_dict()  # type: ignore[operator]

    assert len(merged.adapted) == 14
    for name in merged:
        torch.testing.assert_close(merged[name], expected[name], rtol=1e-6, atol=1e-6)


def test_merging_leaves_other_weights_bit_equal(checkpoint: Checkpoint, tmp_path: Path) -> None:
    trained_adapter(tmp_path)
    merged = Merged(checkpoint, tmp_path)

    for name in set(merged) - set(merged.adapted):
        assert torch.equal(merged[name], checkpoint[name])


def test_a_module_trained_in_full_replaces_the_old_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model, _ = random_llava()
    config = LoraConfig(
        r=4, target_modules=find_decoder(model).layers[0], modules_to_save=["model.multi_modal_projector"]
    )
    wrapped = get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if "modules_to_save" in name:
            torch.nn.init.constant_(parameter, 3.0)
    wrapped.save_pretrained(tmp_path)
    merged = Merged(checkpoint, tmp_path)

    assert (merged["model.multi_modal_projector.linear_1.weight"] == 3).all()


def test_a_written_checkpoint_loads_as_a_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = find_decoder(random_llava()[0]).layers[0][0] + ".weight"
    changed = {key: checkpoint[key] for key in checkpoint} | {name: torch.zeros_like(checkpoint[name])}
    (checkpoint.folder / "pytorch_model.bin").write_bytes(b"the same weights again")
    write_checkpoint(tmp_path / "out", checkpoint, changed)

    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert not model.get_parameter(name).any()
    published = load_file(tmp_path / "out" / "model.safetensors")
    assert set(published) == set(load_file(checkpoint.folder / "model.safetensors"))
    beside = {path.name for path in checkpoint.folder.iterdir()} - {"pytorch_model.bin"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == beside


def test_published_names_are_translated(checkpoint: Checkpoint) -> None:
    stored = load_file(checkpoint.folder / "model.safetensors")

    assert "language_model.model.layers.0.self_attn.q_proj.weight" in stored
    assert set(checkpoint) <= set(random_llava()[0].state_dict())


def test_a_checkpoint_of_another_model_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UserError, match=r"is of another model: .* has no 'language_model.model.layers.1"):
        Checkpoint(checkpoint.folder, random_llava(layers=1)[0])


def test_load_into_takes_only_the_prefix(checkpoint: Checkpoint) -> None:
    model, _ = random_llava(seed=5)
    prefix = find_decoder(model).prefix
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_into(model, checkpoint, f"{prefix}.0.")

    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, checkpoint[name] if name.startswith(f"{prefix}.0.") else before[name])


def test_a_checkpoint_with_other_names_is_refused() -> None:
    with pytest.raises(UserError, match="has no parameter 'language_model.lm_head.weight'"):
        load_into(random_llava()[0], {"language_model.lm_head.weight": torch.zeros(1)})


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No checkpoint in .*expected model\.safetensors"):
        Checkpoint(tmp_path, random_llava()[0])


def open_files(folder: Path) -> list[str]:
    """Return the files of a folder that this process has open, or in its memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    held = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [line for line in [*lines, *held] if str(folder) in line]


def test_files_are_closed_with_their_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model, _ = random_llava()
    folder = shutil.copytree(checkpoint.folder, tmp_path / "stage")

    for _ in range(3):  # the stages of a run: each opens the weights that it starts from
        stage = Checkpoint(folder, model)
        load_into(model, stage)
        assert open_files(folder)
        del stage
        assert not open_files(folder)


def test_a_checkpoint_is_written_in_any_order_and_overwritten(checkpoint: Checkpoint, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "out", checkpoint)
    for name in reversed(list(checkpoint)):
        writer.write(name, torch.full_like(checkpoint[name], 7))
    for name in checkpoint:
        assert (writer.read(name) == 7).all()
        writer.write(name, checkpoint[name])
    writer.finish()

    write_checkpoint(tmp_path / "at once", checkpoint, checkpoint)
    files = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path / "out", tmp_path / "at once")]
    assert files[0] == files[1]


def test_an_adapter_of_rank_stabilised_lora_has_its_own_scale(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model, _ = random_llava()
    targets = find_decoder(model).linear_layers
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, use_rslora=True)
    wrapped = get_peft_model(model, config)
    wrapped.save_pretrained(tmp_path)

    merged, expected = Merged(checkpoint, tmp_path), wrapped.merge_and_unload().state_dict()  # type: ignore[operator]

    assert merged.scale == 4
    for name in merged:
        torch.testing.assert_close(merged[name], expected[name], rtol=1e-6, atol=1e-6)
