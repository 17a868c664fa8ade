from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hpa_bench.baselines.olora import OLoRA, OLoRAConfig
from hpa_bench.method import Method
from hpa_bench.models.adapters import Factors, LoRAConfig, attach_lora, lora_factors
from hpa_bench.runner.training import Training, train
from hpa_bench.suite import TrainingConfig
from tests.support.models import random_llava
from tests.support.stages import coloured_samples, random_stage

RANK = 4
Forms = pytest.mark.parametrize("form", ["l1", "squared"])
Form = Literal["l1", "squared"]


def adapter(folder: Path, seed: int = 0) -> tuple[Any, list[Factors]]:
    """Return a LLaVA with a random adapter, and its factors."""
    _, _, ctx = random_stage(folder, layers=2)
    model = attach_lora(ctx.model, LoRAConfig(rank=RANK), ctx.linear_layers)
    factors, draw = list(lora_factors(model)), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (tensor for layer in factors for tensor in (layer.a, layer.b)):
            tensor.normal_(generator=draw)
    return model, factors


def remembering(folder: Path, *old: dict[str, Tensor], **config: Any) -> OLoRA:
    """Return the method with the given A of earlier stages, remembered one after another."""
    method = OLoRA(OLoRAConfig(**config))
    _, _, ctx = random_stage(folder, layers=2)
    model, factors = adapter(folder)
    for task in old:
        with torch.no_grad():
            for layer in factors:
                layer.a.copy_(task[layer.name])
        method.edit_adapter(model, ctx)
    return method


def random_a(factors: list[Factors], seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {layer.name: torch.randn(layer.a.shape, generator=draw) for layer in factors}


def value(method: OLoRA, model: Any) -> float:
    found = method.penalty(model, {}, None)
    assert found is not None
    return found.item()


@Forms
def test_the_penalty_is_the_sum_over_layers_tasks_and_pairs_of_rows(form: Form, tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    first, second = random_a(factors, 1), random_a(factors, 2)

    penalty = value(remembering(tmp_path, first, second, lambda_1=0.3, lambda_2=0.7, form=form), model)

    expected = 0.0
    for layer in factors:
        for old in (first, second):
            for row in old[layer.name].double():
                products = (row * layer.a.detach().double()).sum(1)
                expected += 0.3 * float((products.abs() if form == "l1" else products**2).sum())
        for tensor in (layer.a, layer.b):
            expected += 0.7 * float(tensor.detach().double().square().sum()) ** 0.5
    assert penalty == pytest.approx(expected, rel=1e-5)


@Forms
def test_orthogonal_rows_cost_nothing_and_equal_orthonormal_rows_cost_the_rank(form: Form, tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    old = {layer.name: torch.eye(layer.a.shape[1])[:RANK] for layer in factors}
    method = remembering(tmp_path, old, lambda_1=1, form=form)

    with torch.no_grad():
        for layer in factors:
            layer.a.copy_(torch.eye(layer.a.shape[1])[RANK : 2 * RANK])
    assert value(method, model) == 0
    with torch.no_grad():
        for layer in factors:
            layer.a.copy_(old[layer.name])
    assert value(method, model) == RANK * len(factors)


@pytest.mark.parametrize(("form", "power"), [("l1", 1), ("squared", 2)])
def test_a_scaled_adapter_scales_the_penalty(form: Form, power: int, tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    method = remembering(tmp_path, random_a(factors, 1), form=form)
    before = value(method, model)

    with torch.no_grad():
        for layer in factors:
            layer.a.mul_(3)

    assert value(method, model) == pytest.approx(3**power * before, rel=1e-5)


def orthogonal(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed))).Q


@Forms
def test_turning_the_inputs_changes_nothing(form: Form, tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    old = random_a(factors, 1)
    before = value(remembering(tmp_path, old, form=form), model)

    turned = {name: a @ orthogonal(a.shape[1], 3) for name, a in old.items()}
    with torch.no_grad():
        for layer in factors:
            layer.a.copy_(layer.a @ orthogonal(layer.a.shape[1], 3))

    assert value(remembering(tmp_path, turned, form=form), model) == pytest.approx(before, rel=1e-4)


def test_the_squared_form_depends_on_the_old_subspace_alone_and_the_l1_form_on_its_basis(tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    old = random_a(factors, 1)
    turned = {name: orthogonal(RANK, 3) @ a for name, a in old.items()}

    def both(form: Form) -> list[float]:
        return [value(remembering(tmp_path, a, form=form), model) for a in (old, turned)]

    assert both("squared")[1] == pytest.approx(both("squared")[0], rel=1e-5)
    assert both("l1")[1] != pytest.approx(both("l1")[0], rel=1e-3)


def test_the_l1_gradient_is_the_sign_of_the_overlap_times_the_old_rows_and_reaches_a_alone(tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    old = random_a(factors, 1)
    penalty = remembering(tmp_path, old, lambda_1=0.5).penalty(model, {}, None)
    assert penalty is not None
    penalty.backward()

    for layer in factors:
        a = old[layer.name]
        assert layer.a.grad is not None and layer.b.grad is None
        torch.testing.assert_close(layer.a.grad, 0.5 * (layer.a.detach() @ a.T).sign() @ a)


def test_there_is_no_penalty_in_the_first_stage_or_without_weights(tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)

    assert OLoRA().penalty(model, {}, None) is None
    assert remembering(tmp_path, random_a(factors, 1), lambda_1=0).penalty(model, {}, None) is None


def test_the_norm_of_a_fresh_b_has_a_gradient_without_nan(tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    with torch.no_grad():
        for layer in factors:
            layer.b.zero_()
    penalty = OLoRA(OLoRAConfig(lambda_2=0.1)).penalty(model, {}, None)
    assert penalty is not None
    penalty.backward()

    assert all(layer.b.grad is not None and not layer.b.grad.any() for layer in factors)


def test_what_is_remembered_survives_on_disk_and_later_training(tmp_path: Path) -> None:
    model, factors = adapter(tmp_path)
    method = remembering(tmp_path, random_a(factors, 1), random_a(factors, 2))
    save_file(dict(method.state_dict()), tmp_path / "state.safetensors")
    loaded = OLoRA()
    loaded.load_state_dict(load_file(tmp_path / "state.safetensors"))

    assert value(loaded, model) == value(method, model)
    assert {name: a.shape[0] for name, a in loaded.old.items()} == {layer.name: 2 * RANK for layer in factors}
    method.edit_adapter(model, random_stage(tmp_path, layers=2)[2])
    kept = {layer.name: layer.a.detach().clone() for layer in factors}
    with torch.no_grad():
        for layer in factors:
            layer.a.zero_()
    assert all(torch.equal(method.old[name][2 * RANK :], a) for name, a in kept.items())
    method.load_state_dict({})
    assert not method.old


def trained(folder: Path, method: Method, **config: Any) -> dict[str, Tensor]:
    model, factors = adapter(folder)
    recipe = TrainingConfig(learning_rate=1e-3, scheduler="constant", max_grad_norm=1e9, **config)
    data, processor = coloured_samples(8), random_llava()[1]
    train(
        model, data, Training(method=method, processor=processor, config=recipe, seed=0, folder=folder, where="stage 2")
    )
    return {layer.name: layer.a.detach() for layer in factors}


@pytest.mark.slow
def test_in_training_the_penalty_counts_once_a_step_and_lowers_the_overlap(tmp_path: Path) -> None:
    _, factors = adapter(tmp_path)
    old = random_a(factors, 1)

    def with_penalty(weight: float, name: str, **config: Any) -> dict[str, Tensor]:
        return trained(tmp_path / name, remembering(tmp_path, old, lambda_1=weight), **config)

    # Of a size with the task loss, so that a penalty counted eight times would show; Adam hides a common factor.
    one = with_penalty(0.01, "one", batch_size=8)
    eight = with_penalty(0.01, "eight", batch_size=1, gradient_accumulation=8)
    for name, a in one.items():
        torch.testing.assert_close(eight[name], a, rtol=1e-4, atol=1e-5)

    def overlap(trained: dict[str, Tensor]) -> float:
        return sum(float((old[name] @ a.T).abs().sum()) for name, a in trained.items())

    held, free = (with_penalty(weight, str(weight), batch_size=8, epochs=5) for weight in (0.5, 0.0))
    assert overlap(held) < overlap(free)
