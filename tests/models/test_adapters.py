"""LoRA on a real, small model: what is trained, and what its factors mean once they are merged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from hpa_bench.models.adapters import Factors, StoredAdapter, attach_lora, lora_factors
from hpa_bench.models.config import LoRAConfig
from hpa_bench.models.decoder import find_decoder
from tests.support.models import random_llava

LAYERS = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
IDS = torch.arange(6)[None]


def llama(**values: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, num_hidden_layers=2, **sizes, **values)).eval()


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def randomised(model: nn.Module) -> nn.Module:
    """The adapted model after a training that left no B at zero."""
    for factors in lora_factors(model):
        nn.init.normal_(factors.b)
    return model


def test_a_fresh_adapter_changes_nothing() -> None:
    model = llama()
    before = model(IDS).logits

    wrapped = attach_lora(model, LoRAConfig(rank=3, alpha=6), LAYERS)

    assert torch.equal(wrapped(IDS).logits, before)
    assert all(factors.a.abs().min() > 0 and not factors.b.any() for factors in lora_factors(wrapped))


def test_only_the_adapter_is_trained() -> None:
    wrapped = attach_lora(llama(), LoRAConfig(rank=3, alpha=6), LAYERS)

    parameters = [parameter for factors in lora_factors(wrapped) for parameter in (factors.a, factors.b)]
    assert {id(parameter) for parameter in parameters} == {id(parameter) for parameter in trained(wrapped).values()}


def test_factors_have_the_layers_names_shapes_and_scale() -> None:
    found = list(lora_factors(attach_lora(llama(), LoRAConfig(rank=3, alpha=12), LAYERS[::-1])))

    assert [factors.name for factors in found] == LAYERS
    assert [(tuple(factors.a.shape), tuple(factors.b.shape)) for factors in found] == [
        ((3, 8), (8, 3)),
        ((3, 12), (8, 3)),
    ]
    assert {factors.scale for factors in found} == {4.0}


def test_the_update_is_what_merging_adds() -> None:
    model = llama()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    wrapped: Any = randomised(attach_lora(model, LoRAConfig(rank=3, alpha=5), LAYERS))
    updates = {f"{factors.name}.weight": factors.update().detach() for factors in lora_factors(wrapped)}

    merged = wrapped.merge_and_unload().state_dict()

    assert merged.keys() == before.keys() and list(updates) == [f"{name}.weight" for name in LAYERS]
    for name, weight in merged.items():
        if name in updates:
            torch.testing.assert_close(weight - before[name], updates[name], rtol=0, atol=1e-5)
            assert updates[name].abs().max() > 0.1
        else:
            assert torch.equal(weight, before[name])


def test_an_update_has_its_closed_form_and_gradient() -> None:
    a = torch.tensor([[1.0, 2.0]], requires_grad=True)
    b = torch.tensor([[3.0], [4.0]], requires_grad=True)

    update = Factors("layer", a, b, 0.5).update()
    update.sum().backward()

    assert update.tolist() == [[1.5, 3.0], [2.0, 4.0]]
    assert a.grad is not None and a.grad.tolist() == [[3.5, 3.5]]  # scale * (3 + 4)
    assert b.grad is not None and b.grad.tolist() == [[1.5], [1.5]]  # scale * (1 + 2)


@pytest.mark.parametrize(("rank", "dropout", "watched", "summed"), [
    (3, 0.0, False, True),
    (1, 0.0, False, False),  # 8 * 8 > 3 * 1 * (8 + 8)
    (3, 0.5, False, False),
    (3, 0.0, True, False),
])  # fmt: skip
def test_a_small_layer_adds_its_adapter_to_its_weight(rank: int, dropout: float, watched: bool, summed: bool) -> None:
    wrapped = randomised(attach_lora(llama(), LoRAConfig(rank=rank, alpha=5, dropout=dropout), LAYERS[:1])).eval()
    layer: Any = wrapped.get_submodule(f"base_model.model.{LAYERS[0]}")
    (factors,) = lora_factors(wrapped)
    x = torch.randn(2, 5, 8)
    seen: list[Any] = []
    if watched:
        layer.base_layer.register_forward_hook(lambda *call: seen.append(call))

    y, expected = layer(x), Linear.forward(layer, x)
    gradients, theirs = (torch.autograd.grad(out.square().sum(), [factors.a, factors.b]) for out in (y, expected))

    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients, theirs)
    whole = nn.functional.linear(x, torch.addmm(layer.base_layer.weight, factors.b, factors.a, alpha=factors.scale))
    assert torch.equal(y, whole if summed else expected) and not torch.equal(whole, expected)
    assert len(seen) == (2 if watched else 0)


def test_a_model_without_an_adapter_has_no_factors() -> None:
    assert list(lora_factors(llama())) == []


def test_what_is_trained_is_float32_and_the_rest_keeps_its_dtype() -> None:
    wrapped = attach_lora(llama().bfloat16(), LoRAConfig(rank=3), LAYERS, full=["embed_tokens"])

    assert {parameter.dtype for parameter in trained(wrapped).values()} == {torch.float32}
    frozen = [parameter for parameter in wrapped.parameters() if not parameter.requires_grad]
    assert {parameter.dtype for parameter in frozen} == {torch.bfloat16}


@pytest.mark.parametrize("tied", [False, True])
def test_modules_in_full_are_trained_and_tied_ones_stay_tied(tied: bool) -> None:
    model: Any = llama(tie_word_embeddings=tied)

    wrapped: Any = attach_lora(model, LoRAConfig(rank=3), LAYERS, full=["embed_tokens"])

    others = {name for name in trained(wrapped) if "lora_" not in name}
    assert any("embed_tokens" in name for name in others)
    copy = wrapped.base_model.model.model.embed_tokens.modules_to_save["default"].weight
    with torch.no_grad():
        copy += 1
    merged = wrapped.merge_and_unload()
    ends = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert torch.equal(ends[0], copy) and torch.equal(ends[0], ends[1]) is tied


def test_a_stored_adapter_has_the_factors_of_the_wrapped_model_and_keeps_what_is_changed(tmp_path: Path) -> None:
    model, _ = random_llava(layers=12)
    wrapped: Any = attach_lora(model, LoRAConfig(rank=2, alpha=6), find_decoder(model).linear_layers)
    for factors in lora_factors(wrapped):
        factors.b.data.normal_(std=0.1)
    wrapped.save_pretrained(tmp_path / "one")
    (tmp_path / "two").mkdir()

    stored = StoredAdapter(tmp_path / "one")
    theirs = {factors.name: factors for factors in lora_factors(wrapped)}
    blocks = []
    for factors in lora_factors(stored):
        blocks.append(int(factors.name.split(".layers.")[1].partition(".")[0]))
        torch.testing.assert_close(factors.update(), theirs[factors.name].update())
        factors.b.mul_(2)
    stored.save(tmp_path / "two")

    assert blocks == sorted(blocks) and len(blocks) == len(theirs) == 84
    for factors in lora_factors(StoredAdapter(tmp_path / "two")):
        torch.testing.assert_close(factors.update(), 2 * theirs[factors.name].update())
