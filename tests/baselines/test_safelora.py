from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpa_bench.baselines.safelora import SafeLoRA, SafeLoRAConfig, cosine, project
from hpa_bench.method import StageContext
from hpa_bench.models.adapters import Factors, LoRAConfig, attach_lora, lora_factors
from tests.support.models import random_llava
from tests.support.stages import random_stage


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained_stage(folder: Path) -> tuple[nn.Module, StageContext]:
    """Return a model with adapters that are not zero, and a stage with an unaligned model."""
    _, _, ctx = random_stage(folder)
    unaligned = random_llava(seed=1, layers=3)[0].state_dict()
    model = attach_lora(ctx.model, LoRAConfig(rank=4, alpha=8), ctx.linear_layers)
    with torch.no_grad():
        for index, factors in enumerate(lora_factors(model)):
            factors.b.copy_(drawn(*factors.b.shape, seed=index))
    return model, replace(ctx, unaligned=unaligned)


def edited(folder: Path, **config: Any) -> dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return A and B before and after the edit, by layer."""
    model, ctx = trained_stage(folder)
    factors = list(lora_factors(model))
    old = [(each.a.detach().clone(), each.b.detach().clone()) for each in factors]
    SafeLoRA(SafeLoRAConfig(**config)).edit_adapter(model, ctx)
    return {each.name: (*was, each.a.detach(), each.b.detach()) for each, was in zip(factors, old, strict=True)}


def official(v: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """Return P B and the cosine, with P and both updates formed in full."""
    p = v @ v.T / v.square().sum().sqrt()
    projected, update = (p @ b @ a).flatten(), (b @ a).flatten()
    return p @ b, float(projected @ update / (projected.norm() * update.norm()))


def alignment(ctx: StageContext, name: str) -> Tensor:
    assert ctx.unaligned is not None
    return ctx.start[f"{name}.weight"].double() - ctx.unaligned[f"{name}.weight"].double()


@pytest.mark.parametrize(("share", "count"), [(0.5, 10), (10 / 224, 1), (0.001, 1), (None, 1), (0.12, 3)])
def test_a_share_of_the_adapters_the_least_aligned_are_projected(
    tmp_path: Path, share: float | None, count: int
) -> None:
    layers = edited(tmp_path, **({} if share is None else {"share": share}))
    assert len(layers) == 21
    _, ctx = trained_stage(tmp_path)
    expected = {name: official(alignment(ctx, name), a.double(), b.double()) for name, (a, b, _, _) in layers.items()}
    ranked = sorted(expected, key=lambda name: expected[name][1])

    for name, (a, b, new_a, new_b) in layers.items():
        assert torch.equal(a, new_a)
        if name in ranked[:count]:
            torch.testing.assert_close(new_b.double(), expected[name][0], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(b, new_b)


def test_the_threshold_projects_what_is_at_or_below_it(tmp_path: Path) -> None:
    _, ctx = trained_stage(tmp_path)
    layers = edited(tmp_path)
    cosines = {name: official(alignment(ctx, name), a.double(), b.double())[1] for name, (a, b, _, _) in layers.items()}
    middle = round(sorted(cosines.values())[7], 5)

    layers = edited(tmp_path, select="threshold", threshold=middle)

    projected = {name for name, (_, b, _, new_b) in layers.items() if not torch.equal(b, new_b)}
    assert projected == {name for name, value in cosines.items() if round(value, 5) <= middle}
    assert len(projected) == 8


@pytest.mark.parametrize("config", [{"share": 0}, {"select": "threshold", "threshold": -1}])
def test_at_its_neutral_settings_no_adapter_changes(tmp_path: Path, config: dict[str, Any]) -> None:
    assert all(torch.equal(b, new_b) for _, b, _, new_b in edited(tmp_path, **config).values())


@pytest.mark.parametrize("config", [{"share": 1}, {"select": "threshold", "threshold": 1}])
def test_saturated_every_adapter_changes(tmp_path: Path, config: dict[str, Any]) -> None:
    assert not any(torch.equal(b, new_b) for _, b, _, new_b in edited(tmp_path, **config).values())


def test_layers_that_alignment_left_alone_and_empty_adapters_are_not_ranked(tmp_path: Path) -> None:
    model, ctx = trained_stage(tmp_path)
    assert ctx.unaligned is not None
    first, second, *others = lora_factors(model)
    same = f"{first.name}.weight"
    with torch.no_grad():
        second.b.zero_()
    was = {each.name: each.b.detach().clone() for each in (first, second, *others)}
    ctx = replace(ctx, unaligned={**ctx.unaligned, same: ctx.start[same]})

    SafeLoRA(SafeLoRAConfig(share=3 / 21)).edit_adapter(model, ctx)

    changed = {each.name for each in (first, second, *others) if not torch.equal(each.b, was[each.name])}
    assert len(changed) == 3 and not changed & {first.name, second.name}
    assert all(each.b.isfinite().all() for each in (first, second, *others))


def test_the_fast_projector_is_symmetric_positive_and_has_the_norm_as_its_trace() -> None:
    v = drawn(12, 30)
    p = project(v, torch.eye(12, dtype=v.dtype))

    torch.testing.assert_close(p, p.T)
    assert torch.linalg.eigvalsh(p).min() > -1e-12
    torch.testing.assert_close(p.trace(), v.norm())


def test_on_orthonormal_columns_the_projectors_differ_by_their_scale() -> None:
    b, columns = drawn(12, 4), torch.linalg.qr(drawn(12, 5)).Q
    onto, v = columns @ (columns.T @ b), 7 * columns

    torch.testing.assert_close(project(v, b, "fast"), 7 / 5**0.5 * onto)
    torch.testing.assert_close(project(v, b, "normalised"), onto / 5)
    torch.testing.assert_close(project(v, b, "exact"), onto)


@pytest.mark.parametrize("projector", ["exact", "normalised"])
def test_a_projector_without_scale_is_the_same_for_twice_the_alignment(projector: str) -> None:
    v, b = drawn(12, 3) @ drawn(3, 30, seed=1), drawn(12, 4, seed=2)

    torch.testing.assert_close(project(2 * v, b, projector), project(v, b, projector))
    torch.testing.assert_close(project(2 * v, b, "fast"), 2 * project(v, b, "fast"))


def test_the_exact_projector_finds_the_rank() -> None:
    v, b = drawn(12, 3) @ drawn(3, 30, seed=1), drawn(12, 4, seed=2)
    once = project(v, b, "exact")

    torch.testing.assert_close(once, v @ torch.linalg.pinv(v) @ b)
    torch.testing.assert_close(project(v, once, "exact"), once)
    torch.testing.assert_close(project(drawn(12, 30), b, "exact"), b)


def test_the_cosine_is_that_of_the_whole_updates_and_between_zero_and_one() -> None:
    for seed in range(20):
        v, b, a = drawn(12, 3, seed=seed), drawn(12, 4, seed=seed + 100), drawn(4, 9, seed=seed + 200)
        found = cosine(project(v, b), Factors("layer", a, b, 2.0))

        assert 0 <= found <= 1
        assert found == round(official(v, a, b)[1], 5)


def test_an_update_outside_the_alignment_has_cosine_zero_and_is_deleted() -> None:
    v, b = torch.eye(6, dtype=torch.float64)[:, :2], torch.eye(6, dtype=torch.float64)[:, 3:5]
    projected = project(v, b)

    assert not projected.any()
    assert cosine(projected, Factors("layer", drawn(2, 9), b, 2.0)) == 0


def test_bfloat16_factors_stay_bfloat16(tmp_path: Path) -> None:
    model, ctx = trained_stage(tmp_path)
    model.to(torch.bfloat16)
    SafeLoRA().edit_adapter(model, ctx)

    assert all(each.b.dtype == torch.bfloat16 and each.b.isfinite().all() for each in lora_factors(model))
