"""Second moments block by block, against hooks on the whole model in float64."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.models.activations import LARGE, ActivationStream
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.weights import load_into
from tests.support.architectures import save
from tests.support.models import random_llava
from tests.support.stages import calibration_batches
from tests.support.suites import write_suite


def streamed(model: Any, weights: Mapping[str, Tensor], batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    stream = ActivationStream(model, weights, batches)
    return {
        name: h for block in range(len(find_decoder(model).layers)) for name, h in stream.second_moments(block).items()
    }


@torch.no_grad()
def by_hooks(model: Any, weights: Mapping[str, Tensor], batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return 2 X^T X / n of every layer from forwards of the whole model in float64, one unpadded sample at a time."""
    load_into(model, weights)
    model.double()
    inputs: dict[str, list[Tensor]] = defaultdict(list)
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: inputs[name].append(args[0][0]))
        for block in find_decoder(model).layers
        for name in block
    ]
    for batch in batches:
        for sample in range(len(batch["input_ids"])):
            tokens = batch["attention_mask"][sample].bool()
            images = {"pixel_values": batch["pixel_values"][[sample]].double()} if "pixel_values" in batch else {}
            ids = batch["input_ids"][sample, tokens][None]
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **images)
    for hook in hooks:
        hook.remove()
    model.float()
    return {name: 2 * torch.cat(x).T @ torch.cat(x) / len(torch.cat(x)) for name, x in inputs.items()}


def assert_same(ours: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert list(ours) == list(expected)
    for name, h in expected.items():
        scale = h.abs().max().item()
        torch.testing.assert_close(ours[name].double(), h.double(), rtol=1e-4, atol=1e-5 * scale, msg=name)


def random_weights(model: Any, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: tensor + 0.02 * torch.randn(tensor.shape, generator=draw)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }


def text_batches(vocabulary: int) -> list[dict[str, Tensor]]:
    ids = torch.randint(vocabulary, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    return [{"input_ids": ids, "attention_mask": mask}]


def text_model(kind: str) -> Any:
    import transformers

    shape = {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
    }
    if kind == "gemma3":
        # A window shorter than the samples, so that the blocks' masks really differ.
        types = ["sliding_attention", "full_attention", "sliding_attention"]
        config: Any = transformers.Gemma3TextConfig(**shape, sliding_window=4, layer_types=types)
    elif kind == "qwen2":
        del shape["head_dim"]
        config = transformers.Qwen2Config(**shape)
    else:
        config = transformers.LlamaConfig(**shape)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_llava_agrees_with_hooks_on_the_whole_model_and_padding_counts_for_nothing(padding_side: str) -> None:
    model, processor = random_llava(layers=3)
    batches = calibration_batches(processor, padding_side=padding_side)
    assert any((batch["attention_mask"] == 0).any() for batch in batches)
    weights = random_weights(model, 1)

    ours = streamed(model, weights, batches)

    assert_same(ours, by_hooks(model, weights, batches))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
def test_any_decoder_agrees_with_hooks_on_the_whole_model(kind: str) -> None:
    model = text_model(kind)
    batches, weights = text_batches(50), random_weights(model, 1)

    ours = streamed(model, weights, batches)

    assert_same(ours, by_hooks(model, weights, batches))


def test_how_samples_are_batched_does_not_matter() -> None:
    model, processor = random_llava()
    weights = random_weights(model, 1)

    one, many = (streamed(model, weights, calibration_batches(processor, batch_size=size)) for size in (1, 6))

    assert_same(one, many)


def test_layers_with_one_input_share_one_tensor() -> None:
    model, processor = random_llava()
    stream = ActivationStream(model, random_weights(model, 1), calibration_batches(processor))

    moments = {name.rpartition(".")[2]: h for name, h in stream.second_moments(0).items()}

    assert moments["q_proj"] is moments["k_proj"] is moments["v_proj"]
    assert moments["gate_proj"] is moments["up_proj"]
    assert len({id(h) for h in moments.values()}) == 4
    assert all(h.dtype == torch.float32 for h in moments.values())


def test_two_streams_with_their_own_weights_share_one_model() -> None:
    model, processor = random_llava()
    batches = calibration_batches(processor), calibration_batches(processor, seed=5, samples=2)
    weights = random_weights(model, 1), random_weights(model, 2)
    alone = [streamed(model, *each) for each in zip(weights, batches, strict=True)]
    together: list[dict[str, Tensor]] = [{}, {}]

    streams = [ActivationStream(model, *each) for each in zip(weights, batches, strict=True)]
    for block in range(2):
        for stream, moments in zip(streams, together, strict=True):
            moments.update(stream.second_moments(block))

    assert all(torch.equal(together[i][name], alone[i][name]) for i in range(2) for name in alone[i])


def test_an_edit_gets_its_blocks_moments_and_only_the_blocks_above_see_it() -> None:
    model, processor = random_llava(layers=3)
    weights, edited = random_weights(model, 1), random_weights(model, 2)
    batches = calibration_batches(processor)
    stream = ActivationStream(model, weights, batches)
    below: dict[str, Tensor] = {}
    found: list[dict[str, Tensor]] = []

    for block, names in enumerate(find_decoder(model).layers):
        changes = {f"{name}.weight": edited[f"{name}.weight"] for name in names}
        given: list[Mapping[str, Tensor]] = []

        def edit(
            moments: Mapping[str, Tensor],
            given: list[Mapping[str, Tensor]] = given,
            changes: dict[str, Tensor] = changes,
        ) -> Mapping[str, Tensor]:
            given.append(moments)
            return changes

        found.append(stream.second_moments(block, edit))
        assert given == [found[-1]]

    for names, moments in zip(find_decoder(model).layers, found, strict=True):
        by_hand = by_hooks(model, {**weights, **below}, batches)
        assert_same(moments, {name: by_hand[name] for name in names})
        below |= {f"{name}.weight": edited[f"{name}.weight"] for name in names}


def test_an_edit_that_changes_nothing_leaves_every_moment() -> None:
    model, processor = random_llava()
    weights, batches = random_weights(model, 1), calibration_batches(processor)
    stream = ActivationStream(model, weights, batches)

    found = {name: h for block in range(2) for name, h in stream.second_moments(block, lambda moments: {}).items()}

    alone = streamed(model, weights, batches)
    assert all(torch.equal(found[name], h) for name, h in alone.items())


def test_n_is_the_number_of_tokens_with_images_and_without_padding() -> None:
    model, processor = random_llava()
    batches = calibration_batches(processor)

    stream = ActivationStream(model, random_weights(model, 1), batches)

    assert stream.tokens == sum(int(batch["attention_mask"].sum()) for batch in batches)


def test_labels_are_ignored() -> None:
    model, processor = random_llava()
    weights, batches = random_weights(model, 1), calibration_batches(processor)
    labelled = [{**batch, "labels": torch.full((9, 9), 99)} for batch in batches]

    assert_same(streamed(model, weights, labelled), streamed(model, weights, batches))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_activations_that_are_not_finite_name_the_first_layer_that_sees_them(bad: float) -> None:
    model, processor = random_llava()
    weights = random_weights(model, 1)
    weights["model.language_model.layers.1.mlp.up_proj.weight"][3, 5] = bad

    stream = ActivationStream(model, weights, calibration_batches(processor))
    stream.second_moments(0)

    with pytest.raises(UserError, match=r"layer 'model.language_model.layers.1.mlp.down_proj' hold NaN or Inf"):
        stream.second_moments(1)


def test_the_models_own_forward_works_as_before() -> None:
    model, processor = random_llava()
    weights, (batch, *_) = random_weights(model, 1), calibration_batches(processor)
    load_into(model, weights)
    with torch.no_grad():
        expected = model(**batch).logits

        streamed(model, weights, [batch])

        assert torch.equal(model(**batch).logits, expected)


def test_blocks_go_in_order_and_once() -> None:
    model, processor = random_llava()
    stream = ActivationStream(model, random_weights(model, 1), calibration_batches(processor))
    stream.second_moments(0)

    with pytest.raises(ValueError, match="Block 1 comes next, not block 0"):
        stream.second_moments(0)


def test_samples_run_through_blocks_that_are_passed_over() -> None:
    model, processor = random_llava(layers=3)
    weights, batches = random_weights(model, 1), calibration_batches(processor)
    every = streamed(model, weights, batches)

    last = ActivationStream(model, weights, batches).second_moments(2)

    assert len(last) == 7 and all(torch.equal(h, every[name]) for name, h in last.items())


def test_no_sample_is_one_sentence() -> None:
    model, _ = random_llava()

    with pytest.raises(UserError, match="calibration set is empty"):
        ActivationStream(model, random_weights(model, 1), [])


def test_a_model_that_adds_visual_features_between_its_blocks_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, calibration={"safety_set": "refusals"})
    save("qwen3_vl", tmp_path / "model")

    with pytest.raises(UserError, match="Qwen3VLForConditionalGeneration does more between its decoder blocks"):
        run(str(suite), "hpa", out=tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run").glob("stage*/adapter"))


def test_a_large_h_is_symmetric_and_that_of_a_small_ones_arithmetic() -> None:
    config = LlamaConfig(
        vocab_size=9, hidden_size=64, intermediate_size=LARGE + 30, num_hidden_layers=1, num_attention_heads=2
    )
    model: Any = LlamaForCausalLM(config)
    batches = [{"input_ids": torch.arange(9)[None]}, {"input_ids": torch.arange(8)[None]}]
    inputs: list[Tensor] = []
    down = model.model.layers[0].mlp.down_proj
    hook = down.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0].double()))
    with torch.no_grad():
        found = ActivationStream(model, model.state_dict(), batches).second_moments(0)["model.layers.0.mlp.down_proj"]
    hook.remove()

    x = torch.cat(inputs)
    assert torch.equal(found, found.T)
    torch.testing.assert_close(found.double(), 2 * x.T @ x / 17, rtol=1e-4, atol=1e-6 * float(found.abs().max()))
