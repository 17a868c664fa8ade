"""Kept image features: the digits of an image computed alone, with whatever others; gone with the weights."""

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from hpa_bench import LoRAConfig, UserError, attach_lora
from hpa_bench.machine import products
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.features import GROUP, MEBIBYTE, _Keeper, keep_features
from hpa_bench.models.loading import load_model
from hpa_bench.models.weights import load_into
from hpa_bench.suite import BUNDLED
from tests.support.architectures import save

MODEL = BUNDLED / "tiny" / "aligned"


@pytest.fixture
def model() -> Any:
    return kept(1)


def kept(mebibytes: int) -> Any:
    model, _ = load_model(MODEL)
    keep_features(model, find_decoder(model), mebibytes)
    return model


def keeper(model: Any) -> _Keeper:
    return model.model.get_image_features


def features(model: Any, images: torch.Tensor) -> list[torch.Tensor]:
    return model.get_image_features(pixel_values=images).pooler_output


def alone(images: torch.Tensor, change: Any = lambda model: None) -> list[torch.Tensor]:
    """Return what a model without any of this makes of each image by itself."""
    model, _ = load_model(MODEL)
    change(model)
    with torch.no_grad():
        return [model.get_image_features(pixel_values=image[None]).pooler_output[0] for image in images]


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


def equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return len(found) == len(expected) and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def test_digits_do_not_depend_on_the_batch_on_what_was_seen_or_on_room(model: Any) -> None:
    seen = images(5)
    expected = alone(seen)

    assert equal(features(model, seen[:2]), expected[:2])
    assert equal(features(model, seen[[4, 1, 0, 4]]), [expected[i] for i in (4, 1, 0, 4)])
    assert equal(features(model, seen), expected)
    assert len(keeper(model)._kept) == 5

    full = kept(1)
    keeper(full)._limit = 2 * expected[0].nbytes
    for _ in range(2):
        assert equal(features(full, seen), expected)
    assert len(keeper(full)._kept) == 2


@torch.no_grad()
def test_images_computed_together_have_the_digits_that_each_has_alone(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.requires_grad_(False)  # A frozen layer takes another path through torch than one that could be trained.
    forward = type(model.model.vision_tower).forward
    sizes: list[int] = []

    def counted(self: Any, pixel_values: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(pixel_values))
        return forward(self, pixel_values, **options)

    monkeypatch.setattr(type(model.model.vision_tower), "forward", counted)
    with products.chosen("portable", "cpu"):
        found = features(model, images(GROUP + 3))
        again = features(model, images(2 * GROUP, seed=1))

    # Each number of images is tried once: the last of them is computed alone too.
    together = products.served()
    assert sizes == ([GROUP, 1, 3, 1, GROUP, GROUP] if together else [1] * (3 * GROUP + 3))
    with products.chosen("portable", "cpu"):
        assert equal(found + again, [*alone(images(GROUP + 3)), *alone(images(2 * GROUP, seed=1))])


@torch.no_grad()
def test_a_frozen_model_and_one_that_could_be_trained_see_alike(model: Any) -> None:
    with products.chosen("portable", "cpu"):
        expected = features(model, images(5))
        assert equal(features(kept(1).requires_grad_(False), images(5)), expected)


@torch.no_grad()
def test_a_tower_whose_images_depend_on_each_other_sees_them_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(0, keepdim=True) / 2

    monkeypatch.setattr(products, "in_force", lambda: True)
    model.model.multi_modal_projector.act = Mean()
    expected = [features(model, image[None])[0] for image in images(3)]
    keeper(model)._kept.clear()

    assert equal(features(model, images(3)), expected)


@torch.no_grad()
def test_an_image_is_computed_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = features(model, images(3))
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *_, **__: pytest.fail("computed again"))

    assert equal(features(model, images(3)), first)
    with torch.inference_mode():
        assert equal(features(model, images(3)), first)


@torch.no_grad()
def test_answers_are_those_of_images_computed_alone(model: Any) -> None:
    _, processor = load_model(MODEL)
    plain, _ = load_model(MODEL)
    inputs = processor.tokenizer(["<s><user>" + 16 * "<image>" + "Read the word.<assistant>"], add_special_tokens=False)
    ids = torch.tensor(inputs["input_ids"])

    for image in images(2):
        given = {"input_ids": ids, "pixel_values": image[None]}
        assert torch.equal(model(**given).logits, plain(**given).logits)
        said, expected = (each.generate(**given, max_new_tokens=4, do_sample=False) for each in (model, plain))
        assert torch.equal(said, expected)


@pytest.mark.parametrize("part", ["model.vision_tower", "model.multi_modal_projector"])
@torch.no_grad()
def test_other_weights_of_what_features_depend_on_are_noticed(model: Any, part: str) -> None:
    def edit(model: Any) -> None:
        next(model.get_submodule(part).parameters()).mul_(2)

    before = features(model, images(2))
    edit(model)
    after = features(model, images(2))
    assert equal(after, alone(images(2), edit))
    assert not equal(after, before)

    parameter = next(model.get_submodule(part).parameters())
    parameter.data = parameter.data / 2
    assert equal(features(model, images(2)), before)


@torch.no_grad()
def test_equal_weights_that_are_loaded_again_keep_what_there_is(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["model.language_model.layers.0.mlp.up_proj.weight"] += 1
    first = features(model, images(2))
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *_, **__: pytest.fail("computed again"))

    load_into(model, weights)

    assert equal(features(model, images(2)), first)


def test_gradients_go_through_a_trained_projector_and_nothing_is_kept_then(model: Any) -> None:
    decoder = find_decoder(model)
    wrapped: Any = attach_lora(model, LoRAConfig(rank=2), decoder.linear_layers, full=["multi_modal_projector"])

    found = torch.stack(features(wrapped.base_model.model, images(2)))
    found.sum().backward()

    trained = [parameter for name, parameter in wrapped.named_parameters() if "projector" in name]
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in trained)
    assert not keeper(model)._kept


def test_under_an_adapter_of_the_decoder_a_training_step_takes_what_is_kept(model: Any) -> None:
    with torch.inference_mode():
        expected = features(model, images(2))
    wrapped: Any = attach_lora(model, LoRAConfig(rank=2), find_decoder(model).linear_layers)
    ids = torch.tensor([[1, 5, *[4] * 16, 7, 8]] * 2)

    wrapped.train()
    wrapped(input_ids=ids, pixel_values=images(2), labels=ids).loss.backward()

    assert wrapped.training and model.model.vision_tower.training
    assert len(keeper(model)._kept) == 2
    assert equal(features(model, images(2)), expected)
    assert all(parameter.grad is not None for parameter in wrapped.parameters() if parameter.requires_grad)


@torch.no_grad()
def test_dropout_of_a_frozen_tower_is_off(model: Any) -> None:
    expected = features(model, images(1))
    other = kept(1)
    other.model.multi_modal_projector.act = nn.Sequential(other.model.multi_modal_projector.act, nn.Dropout(0.5))

    assert equal(features(other.train(), images(1)), expected)


@torch.no_grad()
def test_a_copy_of_the_model_goes_by_its_own_weights(model: Any) -> None:
    features(model, images(1))
    other = copy.deepcopy(model)
    other.model.multi_modal_projector.linear_2.bias.add_(1)

    assert not equal(features(other, images(1)), features(model, images(1)))
    assert keeper(other)._module is other.model


def test_a_model_and_what_it_keeps_go_together() -> None:
    model = kept(1)
    with torch.no_grad():
        features(model, images(1))
    gone = weakref.ref(model.model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


@torch.no_grad()
def test_memory_is_what_the_suite_says(model: Any) -> None:
    size = alone(images(1))[0].nbytes
    keeper(model)._limit = MEBIBYTE // 64
    features(model, images(MEBIBYTE // 64 // size + 3))

    assert sum(one.tensor.nbytes for one in keeper(model)._kept.values()) == MEBIBYTE // 64 // size * size
    assert keeper(model)._bytes <= MEBIBYTE // 64


def test_a_model_whose_images_are_told_by_more_than_pixels_is_refused(tmp_path: Any) -> None:
    model, _ = load_model(save("qwen2_vl", tmp_path / "model"))
    keep_features(model, find_decoder(model), 1)

    with torch.no_grad(), pytest.raises(UserError, match=r"told by image_grid_thw too.*set image_features\.keep=false"):
        model.get_image_features(pixel_values=torch.zeros(4, 8), image_grid_thw=torch.tensor([[1, 2, 2]]))


def test_a_model_may_be_moved_by_swapping_its_tensors() -> None:
    model, before = kept(64), torch.__future__.get_swap_module_params_on_conversion()
    with torch.no_grad():
        features(model, images(2))
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            model.double()
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)
        found = features(model, images(2).double())

    assert equal(found, alone(images(2).double(), lambda model: model.double()))


def test_a_model_without_image_features_is_refused() -> None:
    class Blind(nn.Module):
        pass

    with pytest.raises(UserError, match=r"Blind has no get_image_features\(\)"):
        keep_features(Blind(), find_decoder(load_model(MODEL)[0]), 1)
