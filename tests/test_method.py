"""What a method is by default, and what a stage shows it."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from hpa_bench.data.samples import Sample
from hpa_bench.method import Method, MethodConfig, StageContext
from hpa_bench.models.config import LoRAConfig
from hpa_bench.models.decoder import Decoder, find_decoder


class RateConfig(MethodConfig):
    rate: float = 0.5


class Rated(Method):
    name = "rated"
    Config = RateConfig


def llama() -> LlamaForCausalLM:
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, num_hidden_layers=2, **sizes))


def context(seed: int = 0, stage: int = 1, **values: Any) -> StageContext:
    """A stage of which nothing is there but what a test gives."""
    fields = dict.fromkeys(StageContext.__dataclass_fields__)
    return StageContext(**cast(Any, {**fields, "seed": seed, "stage": stage, **values}))


def test_layers_are_the_decoders() -> None:
    ctx = context(decoder=Decoder("layers", [["layers.0.q", "layers.0.v"], [], ["layers.2.q"]]))

    assert ctx.layers == [["layers.0.q", "layers.0.v"], [], ["layers.2.q"]]
    assert ctx.linear_layers == ["layers.0.q", "layers.0.v", "layers.2.q"]


def drawn(ctx: StageContext, name: str) -> list[float]:
    return torch.rand(4, generator=ctx.generator(name)).tolist()


def test_a_generator_depends_on_its_seed_stage_and_name_alone() -> None:
    torch.manual_seed(1)
    first = drawn(context(seed=3, stage=2), "mask")
    torch.manual_seed(2)

    assert drawn(context(seed=3, stage=2, device="cuda", folder=Path("x")), "mask") == first


def test_generators_are_independent() -> None:
    streams = [
        drawn(context(seed, stage), name) for seed in (0, 1, 11) for stage in (1, 2, 11) for name in ("mask", "order")
    ]

    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_a_generator_leaves_torchs_own_as_it_is() -> None:
    before = torch.get_rng_state()

    drawn(context(), "mask")

    assert torch.equal(torch.get_rng_state(), before)


def test_a_method_has_its_own_configuration() -> None:
    assert Rated().config == RateConfig(rate=0.5)
    assert Rated(RateConfig(rate=2)).config.rate == 2.0


def test_a_configuration_is_frozen_and_refuses_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RateConfig().rate = 1.0
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RateConfig(**cast(Any, {"rat": 1}))


def test_by_default_a_method_changes_nothing_and_remembers_nothing() -> None:
    method, ctx, model = Rated(), context(), torch.nn.Linear(1, 1)
    samples = [Sample("a", "t", "p", "r", [])]

    assert method.curriculum(["x", "y"]) == [["x"], ["y"]]
    assert method.training_data(samples, ctx) is samples
    assert method.penalty(model, {}, None) is None and method.token_penalty(model, {}, None) is None
    assert list(method.adapt({}, {}, ctx)) == list(method.evaluated({}, ctx)) == []
    assert dict(method.state_dict()) == {}
    assert method.needs == frozenset() and method.mergeable


def test_by_default_a_fresh_lora_on_every_linear_layer_is_trained() -> None:
    model = llama()
    ids = torch.arange(6)[None]
    before = model(ids).logits
    ctx = context(model=model, decoder=find_decoder(model), lora=LoRAConfig(rank=3, alpha=6))

    wrapped = Rated().wrap(model, ctx)

    trained = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    expected = {f"base_model.model.{name}.lora_{side}" for name in ctx.linear_layers for side in "AB"}
    assert {name.removesuffix(".default.weight") for name in trained} == expected and len(expected) == 2 * 2 * 7
    assert torch.equal(wrapped(ids).logits, before)
