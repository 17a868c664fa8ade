from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hpa_bench.baselines.resta import RESTA, RESTAConfig
from hpa_bench.method import StageContext
from hpa_bench.models.weights import overlaid
from tests.support.models import random_llava
from tests.support.stages import random_stage


def stage_with_unaligned(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], StageContext]:
    """Return a stage, with an unaligned model that differs in everything but the vision tower."""
    before, after, ctx = random_stage(folder)
    other = random_llava(seed=1, layers=3)[0].state_dict()
    unaligned = {name: before[name] if "vision_tower" in name else tensor for name, tensor in other.items()}
    return before, after, replace(ctx, unaligned=unaligned)


def realigned(tuned: Mapping[str, Tensor], ctx: StageContext, **config: Any) -> dict[str, Tensor]:
    return dict(overlaid(dict(RESTA(RESTAConfig(**config)).evaluated(tuned, ctx)), tuned))


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_the_safety_vector_is_added_to_every_weight_that_differs(tmp_path: Path, gamma: float) -> None:
    before, after, ctx = stage_with_unaligned(tmp_path)
    assert ctx.unaligned is not None

    changed = dict(RESTA(RESTAConfig(gamma=gamma)).evaluated(after, ctx))

    assert {name for name in after if not torch.equal(before[name], ctx.unaligned[name])} == set(changed)
    assert any("embed_tokens" in name for name in changed) and not any("vision_tower" in name for name in changed)
    for name, weight in changed.items():
        expected = after[name].double() + gamma * (before[name].double() - ctx.unaligned[name].double())
        torch.testing.assert_close(weight, expected.float(), rtol=1e-7, atol=0)


def test_added_to_the_unaligned_model_it_is_the_aligned_one(tmp_path: Path) -> None:
    before, _, ctx = stage_with_unaligned(tmp_path)
    assert ctx.unaligned is not None

    aligned = realigned(ctx.unaligned, ctx, gamma=1.0)

    assert all(torch.equal(aligned[name], tensor) for name, tensor in before.items())


def test_without_safety_and_dare_nothing_changes(tmp_path: Path) -> None:
    _, after, ctx = stage_with_unaligned(tmp_path)
    options = [{"gamma": 0}, {"gamma": 0, "apply": "each"}, {"gamma": 0, "dare_on": "both", "dare_p": 0}]

    for method in (RESTA(RESTAConfig(**each)) for each in options):  # type: ignore[arg-type]
        assert not list(method.evaluated(after, ctx))
        assert not list(method.adapt(ctx.before, after, ctx))


def test_only_one_of_the_two_models_is_realigned(tmp_path: Path) -> None:
    before, after, ctx = stage_with_unaligned(tmp_path)
    scored, each = RESTA(), RESTA(RESTAConfig(apply="each"))

    assert not list(scored.adapt(before, after, ctx)) and not list(each.evaluated(after, ctx))
    handed_on, copy = dict(each.adapt(before, after, ctx)), dict(scored.evaluated(after, ctx))
    assert all(torch.equal(handed_on[name], copy[name]) for name in copy)


def test_the_aligned_model_is_scored_as_it_is(tmp_path: Path) -> None:
    before, _, ctx = stage_with_unaligned(tmp_path)

    assert not list(RESTA().evaluated(before, replace(ctx, stage=0)))


def test_additions_that_are_handed_on_add_up(tmp_path: Path) -> None:
    before, _, ctx = stage_with_unaligned(tmp_path)
    assert ctx.unaligned is not None
    method, theta = RESTA(RESTAConfig(apply="each", gamma=0.1)), before
    for stage in (1, 2, 3):
        theta = dict(overlaid(dict(method.adapt(theta, theta, replace(ctx, stage=stage))), theta))

    for name, weight in theta.items():
        torch.testing.assert_close(weight, 1.3 * before[name] - 0.3 * ctx.unaligned[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dare_on", ["sft", "safety", "both"])
@pytest.mark.parametrize("apply", ["evaluated", "each"])
def test_dare_thins_the_update_the_safety_vector_or_both(tmp_path: Path, apply: str, dare_on: str) -> None:
    theta_0, tuned, ctx = stage_with_unaligned(tmp_path)
    assert ctx.unaligned is not None
    before = {name: 0.9 * tensor for name, tensor in theta_0.items()}
    ctx = replace(ctx, before=before)
    method = RESTA(RESTAConfig(apply=apply, dare_on=dare_on, dare_p=0.4, gamma=0.5))  # type: ignore[arg-type]
    base = theta_0 if apply == "evaluated" else before
    changed = dict(method.evaluated(tuned, ctx) if apply == "evaluated" else method.adapt(before, tuned, ctx))

    def thinned(vector: Tensor, part: str, name: str) -> Tensor:
        if dare_on not in (part, "both"):
            return vector
        draw = torch.rand(vector.shape, generator=ctx.generator(f"resta/{part}/{name}"))
        return torch.where(draw < 0.4, 0, vector / 0.6)

    for name, weight in changed.items():
        update = thinned(tuned[name].double() - base[name].double(), "sft", name)
        safety = thinned(theta_0[name].double() - ctx.unaligned[name].double(), "safety", name)
        expected = base[name].double() + update + 0.5 * safety
        torch.testing.assert_close(weight, expected.float(), rtol=1e-6, atol=1e-7)


def test_what_dare_drops_depends_on_seed_and_stage_alone(tmp_path: Path) -> None:
    _, after, ctx = stage_with_unaligned(tmp_path)

    def first(ctx: StageContext) -> Tensor:
        weights = RESTA(RESTAConfig(dare_on="safety")).evaluated(after, ctx)
        return next(weight for name, weight in weights if "q_proj" in name)

    assert torch.equal(first(ctx), first(ctx))
    assert not torch.equal(first(ctx), first(replace(ctx, stage=2)))
    assert not torch.equal(first(ctx), first(replace(ctx, seed=1)))


def test_by_default_half_the_vector_is_added_and_bfloat16_weights_are_rounded_once(tmp_path: Path) -> None:
    before, after, ctx = stage_with_unaligned(tmp_path)
    assert ctx.unaligned is not None
    before, after, unaligned = (
        {name: tensor.bfloat16() for name, tensor in each.items()} for each in (before, after, ctx.unaligned)
    )

    for name, weight in RESTA().evaluated(after, replace(ctx, start=before, unaligned=unaligned)):
        exact = after[name].double() + 0.5 * (before[name].double() - unaligned[name].double())
        assert torch.equal(weight, exact.bfloat16())
