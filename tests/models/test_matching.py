"""Checkpoints of one model pass, also where tied tensors are stored under other names; what differs is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from hpa_bench.errors import UserError
from hpa_bench.models.matching import NotGiven, check_adapter, check_complete, check_same, doubt_of_base
from hpa_bench.models.weights import Checkpoint
from tests.support.adaptations import write_models
from tests.support.models import random_llava, save_random_llava

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
FILE = "model.safetensors"


@pytest.fixture
def tied(tmp_path: Path) -> tuple[LlamaForCausalLM, Path]:
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, tie_word_embeddings=True, **SHAPE))
    model.save_pretrained(tmp_path / "tied")
    return model, tmp_path / "tied"


def changed(folder: Path, **changes: torch.Tensor | None) -> Path:
    """A copy of a checkpoint; None leaves a tensor out."""
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    tensors = {**load_file(copy / FILE), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, copy / FILE)
    return copy


def test_a_tied_tensor_may_be_stored_under_either_name(tied: tuple[LlamaForCausalLM, Path]) -> None:
    model, folder = tied
    other = changed(folder, model__embed_tokens__weight=None, lm_head__weight=model.lm_head.weight.detach())
    one, two = Checkpoint(folder, model), Checkpoint(other, model)

    for checkpoint in (one, two):
        check_complete(checkpoint, model)
    check_same(two, one, model, "--after")

    assert torch.equal(two["model.embed_tokens.weight"], one["model.embed_tokens.weight"])


def test_what_is_lacking_or_of_another_shape_is_named(tied: tuple[LlamaForCausalLM, Path]) -> None:
    model, folder = tied
    one = Checkpoint(folder, model)
    lacking = Checkpoint(changed(folder, model__norm__weight=None), model)

    with pytest.raises(UserError, match=r"copy lacks 'model.norm.weight', which LlamaForCausalLM has"):
        check_complete(lacking, model)
    with pytest.raises(UserError, match=r"--after .*copy has no 'model.norm.weight'"):
        check_same(lacking, one, model, "--after")
    check_same(lacking, one, model, "--unaligned", whole=False)

    shutil.rmtree(lacking.folder)
    longer = Checkpoint(changed(folder, model__norm__weight=torch.ones(17)), model)
    with pytest.raises(UserError, match=r"'model.norm.weight' of shape \[17\]"):
        check_complete(longer, model)
    with pytest.raises(UserError, match=r"'model.norm.weight' is \[17\] in --after .* and \[16\] in --before"):
        check_same(longer, one, model, "--after")


def test_an_adapter_of_wider_layers_is_refused(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    wider = Checkpoint(save_random_llava(tmp_path / "wider", layers=3, hidden=64), random_llava(layers=3, hidden=64)[0])

    check_adapter(models / "adapter", Checkpoint(models / "before", random_llava(layers=3)[0]))
    with pytest.raises(UserError, match=r"is not of --before .*: it has a change of '.*' of shape \[\d+, \d+\]"):
        check_adapter(models / "adapter", wider)


SAME = [
    ("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-7b-hf"),
    ("llava-hf/llava-1.5-7b-hf", "/data/models/LLaVA-1.5-7B-hf"),
    ("/home/one/aligned", "/scratch/two/aligned/"),
    ("llava-hf/llava-1.5-7b-hf", "/cache/hub/models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b"),
    ("/cache/hub/models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b", "llava-hf/llava-1.5-7b-hf"),
    (None, "aligned"),
    ("", "aligned"),
]
OTHER = [
    ("llava-hf/llava-1.5-7b-hf", "/data/aligned"),
    ("/data/llava-7b", "/data/llava-13b"),
    ("/cache/hub/models--a--b/snapshots/0a1b", "/cache/hub/models--a--c/snapshots/2c3d"),
]


@pytest.mark.parametrize(("named", "given"), [*SAME, *OTHER])
def test_an_adapter_of_another_base_is_doubted(named: str | None, given: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))

    told = doubt_of_base(tmp_path, [given])

    assert bool(told) == ((named, given) in OTHER)
    assert not told or (repr(named) in told and given in told and "\n" not in told)
    assert not doubt_of_base(tmp_path, [given, named or given])


def test_a_link_is_called_what_it_leads_to_as_well(tmp_path: Path) -> None:
    (tmp_path / "aligned").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "aligned")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere/aligned"}')

    assert not doubt_of_base(tmp_path, [str(tmp_path / "latest")])


def test_weights_that_were_not_given_say_by_which_option_they_are() -> None:
    weights = NotGiven("ties", "theta_0", "--start DIR")

    for ask in (lambda: weights["a"], lambda: list(weights), lambda: len(weights)):
        with pytest.raises(UserError, match="Method 'ties' needs theta_0: give --start DIR."):
            ask()
