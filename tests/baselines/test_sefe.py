from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hpa_bench.baselines.sefe import SEFE, SEFEConfig, yes_or_no
from hpa_bench.models.adapters import Factors, LoRAConfig, attach_lora, lora_factors
from hpa_bench.runner.training import Training, train
from hpa_bench.suite import TrainingConfig
from tests.support.models import random_llava
from tests.support.stages import coloured_samples, random_stage


def adapter(folder: Path, seed: int = 0, alpha: int = 8) -> tuple[Any, list[Factors]]:
    """Return a LLaVA with a random adapter of rank 4, and its factors."""
    _, _, ctx = random_stage(folder, layers=2)
    layers = ctx.linear_layers
    model = attach_lora(ctx.model, LoRAConfig(rank=4, alpha=alpha), layers)
    factors, draw = list(lora_factors(model)), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (tensor for layer in factors for tensor in (layer.a, layer.b)):
            tensor.normal_(generator=draw)
    return model, factors


def after_stages(folder: Path, seeds: tuple[int, ...], **config: Any) -> SEFE:
    """Return the method after stages whose adapters were drawn with these seeds."""
    method, ctx = SEFE(SEFEConfig(**config)), random_stage(folder, layers=2)[2]
    for seed in seeds:
        method.edit_adapter(adapter(folder, seed)[0], ctx)
    return method


def product(layer: Factors) -> Tensor:
    return layer.b.detach().double() @ layer.a.detach().double()


def value(method: SEFE, model: Any) -> float:
    found = method.penalty(model, {}, None)
    assert found is not None
    return found.item()


def test_a_stage_marks_the_largest_entries_of_each_matrix(tmp_path: Path) -> None:
    _, factors = adapter(tmp_path, seed=1)
    method = after_stages(tmp_path, (1,))

    assert set(method.marked) == {layer.name for layer in factors}
    for layer in factors:
        size, marks = product(layer).abs().flatten(), method.marked[layer.name].long()
        chosen = torch.zeros_like(size, dtype=torch.bool).index_fill(0, marks, True)
        assert len(marks) == int(0.02 * size.numel()) == chosen.sum()
        assert size[chosen].min() >= size[~chosen].max()


def test_the_penalty_is_the_mean_over_layers_of_the_mean_over_marks_without_the_scale(tmp_path: Path) -> None:
    method = after_stages(tmp_path, (1, 2, 1), strength=3.0)
    model, factors = adapter(tmp_path, seed=5, alpha=4)
    other_scale, _ = adapter(tmp_path, seed=5, alpha=64)

    expected = 0.0
    for layer in factors:
        marks = [divmod(int(mark), layer.a.shape[1]) for mark in method.marked[layer.name]]
        expected += 3.0 / len(factors) * sum(abs(float(product(layer)[mark])) for mark in marks) / len(marks)
    assert value(method, model) == pytest.approx(expected, rel=1e-5)
    assert value(method, other_scale) == value(method, model)


def test_with_one_mark_a_layer_the_penalty_is_the_size_of_those_entries(tmp_path: Path) -> None:
    method = after_stages(tmp_path, (1,), share=1e-9)
    model, factors = adapter(tmp_path, seed=5)

    _, old = adapter(tmp_path, seed=1)
    largest = [product(layer).abs().argmax() for layer in old]
    sizes = [product(layer).abs().flatten()[mark] for layer, mark in zip(factors, largest, strict=True)]
    assert value(method, model) == pytest.approx(2500 * float(torch.stack(sizes).mean()), rel=1e-5)


def test_the_same_marks_twice_change_nothing_and_a_mark_of_two_stages_counts_twice(tmp_path: Path) -> None:
    model, factors = adapter(tmp_path, seed=5)
    once, twice, mixed = (after_stages(tmp_path, seeds) for seeds in ((1,), (1, 1), (1, 1, 2)))

    assert value(twice, model) == pytest.approx(value(once, model), rel=1e-6)
    ones, twos = value(once, model), value(after_stages(tmp_path, (2,)), model)
    assert value(mixed, model) == pytest.approx((2 * ones + twos) / 3, rel=1e-5)
    assert all(len(mixed.marked[layer.name]) == 3 * len(once.marked[layer.name]) for layer in factors)


def test_the_penalty_depends_on_the_product_alone(tmp_path: Path) -> None:
    method = after_stages(tmp_path, (1,))
    model, factors = adapter(tmp_path, seed=5)
    before = value(method, model)

    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) + 4 * torch.eye(4)
    with torch.no_grad():
        for layer in factors:
            layer.b.copy_(layer.b @ mix)
            layer.a.copy_(mix.inverse() @ layer.a)

    assert value(method, model) == pytest.approx(before, rel=1e-4)


def test_a_fresh_adapter_has_no_penalty_and_no_gradient_from_it(tmp_path: Path) -> None:
    method = after_stages(tmp_path, (1,))
    model, factors = adapter(tmp_path)
    with torch.no_grad():
        for layer in factors:
            layer.b.zero_()
    penalty = method.penalty(model, {}, None)
    assert penalty is not None
    penalty.backward()

    assert penalty == 0
    for tensor in (tensor for layer in factors for tensor in (layer.a, layer.b)):
        assert tensor.grad is not None and not tensor.grad.any()


def test_only_marked_entries_are_held(tmp_path: Path) -> None:
    method = after_stages(tmp_path, (1,), strength=1.0)
    model, factors = adapter(tmp_path, seed=5)
    penalty = method.penalty(model, {}, None)
    assert penalty is not None
    penalty.backward()

    for layer in factors:
        marks = torch.zeros(product(layer).numel(), dtype=torch.float64)
        marks[method.marked[layer.name].long()] = 1 / len(method.marked[layer.name]) / len(factors)
        towards = product(layer).sign() * marks.view_as(product(layer))
        assert layer.b.grad is not None
        torch.testing.assert_close(layer.b.grad.double(), towards @ layer.a.detach().double().T, rtol=1e-4, atol=1e-7)


def test_there_is_no_penalty_in_the_first_stage_or_without_strength(tmp_path: Path) -> None:
    model, _ = adapter(tmp_path)

    assert SEFE().penalty(model, {}, None) is None
    assert after_stages(tmp_path, (1,), strength=0).penalty(model, {}, None) is None


def test_marks_are_four_bytes_each_and_survive_on_disk(tmp_path: Path) -> None:
    method = after_stages(tmp_path, (1, 2))
    model, factors = adapter(tmp_path, seed=5)
    save_file(dict(method.state_dict()), tmp_path / "state.safetensors")
    loaded = SEFE()
    loaded.load_state_dict(load_file(tmp_path / "state.safetensors"))

    assert value(loaded, model) == value(method, model)
    entries = sum(layer.a.shape[1] * layer.b.shape[0] for layer in factors)
    assert sum(marks.nbytes for marks in loaded.state_dict().values()) <= 4 * 2 * 0.02 * entries
    loaded.load_state_dict({})
    assert not loaded.marked


def trained(folder: Path, method: SEFE, **config: Any) -> list[Factors]:
    model, factors = adapter(folder, seed=5)
    recipe = TrainingConfig(learning_rate=1e-3, scheduler="constant", max_grad_norm=1e9, **config)
    data, processor = coloured_samples(8), random_llava()[1]
    train(
        model, data, Training(method=method, processor=processor, config=recipe, seed=0, folder=folder, where="stage 2")
    )
    return factors


@pytest.mark.slow
def test_in_training_the_penalty_counts_once_a_step_and_keeps_the_marked_entries_small(tmp_path: Path) -> None:
    # Of a size with the task loss, so that a penalty counted eight times would show; Adam hides a common factor.
    one = trained(tmp_path / "one", after_stages(tmp_path, (1,), strength=10), batch_size=8)
    eight = trained(
        tmp_path / "eight", after_stages(tmp_path, (1,), strength=10), batch_size=1, gradient_accumulation=8
    )
    for ours, theirs in zip(eight, one, strict=True):
        torch.testing.assert_close(ours.a, theirs.a, rtol=1e-4, atol=1e-5)

    marked = after_stages(tmp_path, (1,)).marked
    held, free = (
        trained(tmp_path / str(strength), after_stages(tmp_path, (1,), strength=strength), batch_size=8, epochs=5)
        for strength in (2500, 0)
    )

    def size(factors: list[Factors]) -> float:
        return sum(float(product(layer).flatten()[marked[layer.name].long()].abs().mean()) for layer in factors)

    assert size(held) < size(free)


def test_by_default_the_training_data_stay_as_they_are(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    samples = coloured_samples(20)

    assert SEFE().training_data(samples, ctx) == samples


def test_asd_lite_asks_a_share_of_the_samples_for_yes_or_no(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    samples = coloured_samples(200)
    method = SEFE(SEFEConfig(asd_lite=0.4))

    changed = method.training_data(samples, ctx)

    assert changed == method.training_data(samples, ctx)
    asked = [(old, new) for old, new in zip(samples, changed, strict=True) if old is not new]
    assert len(asked) == 80
    for old, new in asked:
        answer = new.target
        candidate = new.prompt.removeprefix(f"{old.prompt} Is it ").removesuffix("? Answer yes or no.")
        assert candidate in {sample.target for sample in samples}
        assert answer == ("yes" if candidate == old.target else "no")
        assert (new.id, new.task, new.images) == (old.id, old.task, old.images)
    assert {new.target for _, new in asked} == {"yes", "no"}


def test_a_question_about_another_answer_is_answered_no() -> None:
    sample = coloured_samples(1)[0]

    assert yes_or_no(sample, "blue").target == "no"
    assert yes_or_no(sample, sample.target).target == "yes"
