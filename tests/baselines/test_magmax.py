from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpa_bench.baselines.magmax import MagMax, MagMaxConfig
from hpa_bench.baselines.shared.task_vectors import trained_weights
from hpa_bench.method import StageContext
from tests.support.stages import random_stage


def tuned_models(before: dict[str, Tensor], ctx: StageContext, count: int = 3) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(7)
    moved = set(trained_weights(ctx))
    return [
        {
            name: tensor + 0.1 * torch.randn(tensor.shape, generator=draw) if name in moved else tensor
            for name, tensor in before.items()
        }
        for _ in range(count)
    ]


def scored(models: Sequence[dict[str, Tensor]], ctx: StageContext, repeated: int = 0, scale: float = 1.0) -> list[dict]:
    """Return the scored weights after each stage; a stage is repeated, by another process, so many times."""
    stages = []
    for stage, after in enumerate(models, 1):
        now = replace(ctx, stage=stage)
        for _ in range(1 + repeated):
            assert not dict(MagMax(MagMaxConfig(scale=scale)).adapt(ctx.start, after, now))
        stages.append(dict(MagMax(MagMaxConfig(scale=scale)).evaluated(after, now)))
    return stages


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_entry_moves_by_its_largest_change_so_far(tmp_path: Path, scale: float) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx)

    for stage, weights in enumerate(scored(models, ctx, scale=scale), 1):
        assert len(weights) == 3 * 7
        for name, weight in weights.items():
            taus = torch.stack([model[name].double() - before[name].double() for model in models[:stage]])
            largest = taus.gather(0, taus.abs().argmax(0, keepdim=True))[0]
            expected = (before[name].double() + scale * largest).float()
            torch.testing.assert_close(weight, expected, rtol=1e-7, atol=0)
            torch.testing.assert_close((weight - before[name]).abs(), scale * taus.abs().amax(0).float())


def test_after_one_task_the_scored_model_is_the_tuned_one(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx, 1)

    assert all(torch.equal(weight, models[0][name]) for name, weight in scored(models, ctx)[0].items())


def test_a_projector_that_is_trained_too_moves_by_its_largest_change(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    ctx = replace(ctx, lora=ctx.lora.beside(["multi_modal_projector"]))
    projector = [name for name in before if "multi_modal_projector" in name]
    models = [before | {name: before[name] + change for name in projector} for change in (3, -1)]

    weights = scored(models, ctx)[-1]

    assert projector and all(torch.equal(weights[name], before[name] + 3) for name in projector)


def test_the_order_of_the_tasks_does_not_matter_without_ties(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx)
    forwards = scored(models, replace(ctx, folder=tmp_path / "forwards"))[-1]
    backwards = scored(models[::-1], replace(ctx, folder=tmp_path / "backwards"))[-1]

    assert all(torch.equal(forwards[name], backwards[name]) for name in forwards)


def test_of_equal_magnitudes_the_later_wins(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    ctx = replace(ctx, start={name: torch.zeros_like(tensor) for name, tensor in before.items()})
    plus, minus = ({name: sign * torch.ones_like(tensor) for name, tensor in before.items()} for sign in (1, -1))

    assert all((weight == -1).all() for weight in scored([plus, minus], ctx)[-1].values())
    assert all((weight == 1).all() for weight in scored([minus, plus], ctx)[-1].values())


def test_a_repeated_stage_changes_nothing_and_only_two_stages_are_kept(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx)
    once = scored(models, replace(ctx, folder=tmp_path / "once"))
    thrice = scored(models, replace(ctx, folder=tmp_path / "thrice"), repeated=2)

    for first, second in zip(once, thrice, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert sorted(path.name for path in (tmp_path / "thrice").iterdir()) == ["stage2", "stage3"]


def test_the_aligned_model_is_scored_as_it_is(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)

    assert not list(MagMax().evaluated(before, replace(ctx, stage=0)))
