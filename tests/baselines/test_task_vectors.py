"""What the methods that add and merge task vectors share."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpa_bench.baselines.shared.task_vectors import alignment_vector, dare, keep, kept, task_vector, trained_weights
from hpa_bench.errors import UserError
from tests.support.stages import random_stage


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adding_a_task_vector_back_gives_the_very_weights(dtype: torch.dtype) -> None:
    a, b = (torch.randn(200, 300, generator=seeded(seed)).to(dtype) for seed in (0, 1))

    assert torch.equal((b + task_vector(a, b)).to(dtype), a)


def test_dare_is_the_vector_on_average() -> None:
    vector, generator = torch.tensor([1.0, -3.0, 0.5, 8.0], dtype=torch.float64), seeded(0)
    draws = torch.stack([dare(vector, 0.7, generator) for _ in range(10_000)])

    # One draw of an entry x has the variance x^2 p / (1 - p).
    error = 5 * vector.abs() * (0.7 / 0.3 / 10_000) ** 0.5
    assert ((draws.mean(0) - vector).abs() < error).all()
    assert draws.unique().numel() == 5


def test_dare_drops_a_share_of_p() -> None:
    dropped = (dare(torch.ones(100, 1000), 0.9, seeded(0)) == 0).float().mean().item()

    assert abs(dropped - 0.9) < 5 * (0.9 * 0.1 / 1e5) ** 0.5


def test_dare_depends_on_its_seed_and_at_p_zero_does_nothing() -> None:
    vector = torch.randn(50, 50, generator=seeded(3))

    assert torch.equal(dare(vector, 0.5, seeded(0)), dare(vector, 0.5, seeded(0)))
    assert not torch.equal(dare(vector, 0.5, seeded(0)), dare(vector, 0.5, seeded(1)))
    assert torch.equal(dare(vector, 0.0, seeded(0)), vector)


def test_kept_weights_are_read_back_by_stage(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path / "method")
    keep(ctx, after.__getitem__)
    keep(replace(ctx, stage=2), before.__getitem__)
    keep(ctx, after.__getitem__)

    first, second = kept(ctx, 1), kept(ctx, 2)

    assert sorted(first) == sorted(second) == sorted(trained_weights(ctx))
    assert len(first) == 3 * 7
    assert all(torch.equal(first[name], after[name]) and torch.equal(second[name], before[name]) for name in first)
    assert not list(tmp_path.rglob("*.partial"))


def test_an_unaligned_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    name = next(trained_weights(ctx))
    ctx = replace(ctx, unaligned={**before, name: torch.zeros(3, 5)})

    with pytest.raises(UserError, match=r"q_proj.weight' is \[3, 5\] in the suite's unaligned_model and \[32, 32\]"):
        alignment_vector(ctx, name)
