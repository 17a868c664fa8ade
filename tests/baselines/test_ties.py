from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hpa_bench.baselines.shared.task_vectors import kept, trained_weights
from hpa_bench.baselines.ties import TIES, TIESConfig, kth_magnitude
from hpa_bench.method import StageContext
from tests.support.stages import merged_stage, random_stage


def tuned_models(before: dict[str, Tensor], ctx: StageContext, count: int = 3) -> list[dict[str, Tensor]]:
    """Return models whose layers moved by different amounts."""
    draw = torch.Generator().manual_seed(7)
    size = {name: 0.02 * (1 + index) for index, name in enumerate(trained_weights(ctx))}
    return [
        {
            name: tensor + size.get(name, 0) * torch.randn(tensor.shape, generator=draw)
            for name, tensor in before.items()
        }
        for _ in range(count)
    ]


def scored(models: Sequence[dict[str, Tensor]], ctx: StageContext, **config: Any) -> dict[str, Tensor]:
    """Return the scored weights after the last of several stages."""
    method = TIES(TIESConfig(**config))
    for stage, after in enumerate(models, 1):
        dict(method.adapt(ctx.start, after, replace(ctx, stage=stage)))
    return dict(TIES(TIESConfig(**config)).evaluated(models[-1], replace(ctx, stage=len(models))))


def merged(taus: Tensor, share: float) -> Tensor:
    """Return TIES of flat task vectors `[t, n]`, entry by entry in plain Python."""
    trimmed = []
    for tau in taus.tolist():
        smallest = sorted(map(abs, tau), reverse=True)[round(share * len(tau)) - 1]
        trimmed.append([x if abs(x) >= smallest else 0.0 for x in tau])
    entries = []
    for column in zip(*trimmed, strict=True):
        total = sum(column)
        agreeing = [x for x in column if x * total > 0]
        entries.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return torch.tensor(entries, dtype=torch.float64)


@pytest.mark.parametrize(("share", "scale"), [(0.2, 1.0), (0.6, 0.4), (1.0, 1.0)])
def test_trim_elect_and_merge_over_all_layers_together(tmp_path: Path, share: float, scale: float) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx)
    names = list(trained_weights(ctx))

    def flat(weights: dict[str, Tensor]) -> Tensor:
        return torch.cat([weights[name].flatten().double() for name in names])

    start = flat(before)
    expected = start + scale * merged(torch.stack([flat(model) - start for model in models]), share)

    weights = scored(models, ctx, keep=share, scale=scale)

    assert list(weights) == names
    torch.testing.assert_close(flat(weights), expected, rtol=1e-6, atol=1e-7)


def test_one_task_kept_whole_is_the_tuned_model(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx, 1)

    assert all(torch.equal(weight, models[0][name]) for name, weight in scored(models, ctx, keep=1).items())


def test_one_task_trimmed_moves_a_fifth_of_the_entries_the_largest(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx, 1)

    weights = scored(models, ctx)

    moved = torch.cat([(weight != before[name]).flatten() for name, weight in weights.items()])
    sizes = torch.cat([(models[0][name] - before[name]).abs().flatten() for name in weights])
    assert moved.sum() == round(0.2 * len(moved))
    assert sizes[moved].min() >= sizes[~moved].max()


def test_the_share_holds_in_bfloat16_too(tmp_path: Path) -> None:
    """Differences of rounded weights tie by the thousand, and all that tie with the last would be kept."""
    before, after, ctx = merged_stage(tmp_path, share=0.03)
    list(TIES(TIESConfig(keep=0.2)).adapt(before, after, ctx))

    trimmed = kept(ctx, 1)
    moved = [(trimmed[name] != before[name]).float().mean() for name in trained_weights(ctx)]
    sizes = [before[name].numel() for name in trained_weights(ctx)]
    share = sum(m * size for m, size in zip(moved, sizes, strict=True)) / sum(sizes)
    assert 0.15 < share <= 0.201


def test_opposite_equal_tasks_cancel_and_equal_ones_average_to_themselves(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    start = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    opposite = {name: -tensor for name, tensor in before.items()}

    cancelled = scored([before, opposite], replace(ctx, start=start), keep=1)
    same = scored([before, before], replace(ctx, start=start), keep=1)

    assert not any(weight.any() for weight in cancelled.values())
    assert all(torch.equal(weight, before[name]) for name, weight in same.items())


def test_a_task_outvoted_has_no_part_in_the_mean(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    start = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    votes = [{name: torch.full_like(tensor, vote) for name, tensor in before.items()} for vote in (3.0, -2.0, 1.0)]

    assert all((weight == 2).all() for weight in scored(votes, replace(ctx, start=start)).values())


@pytest.mark.parametrize("train_from", ["aligned", "previous"])
def test_what_the_next_task_starts_from(tmp_path: Path, train_from: Any) -> None:
    before, after, ctx = random_stage(tmp_path)
    handed_on = dict(TIES(TIESConfig(train_from=train_from)).adapt(before, after, ctx))

    assert list(handed_on) == (list(trained_weights(ctx)) if train_from == "aligned" else [])
    assert all(torch.equal(weight, before[name]) for name, weight in handed_on.items())


def test_a_projector_that_is_trained_too_starts_anew_and_is_merged(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    ctx = replace(ctx, lora=ctx.lora.beside(["multi_modal_projector"]))
    projector = [name for name in before if "multi_modal_projector" in name]
    after |= {name: before[name] + 1 for name in projector}

    handed_on = dict(TIES(TIESConfig(keep=1)).adapt(before, after, ctx))
    weights = dict(TIES(TIESConfig(scale=0.5)).evaluated(handed_on, ctx))

    assert projector and all(torch.equal(handed_on[name], before[name]) for name in projector)
    for name in projector:
        torch.testing.assert_close(weights[name], before[name] + 0.5)


def test_a_repeated_stage_changes_nothing(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    models = tuned_models(before, ctx)
    once = scored(models, ctx)
    dict(TIES().adapt(before, models[-1], replace(ctx, stage=3)))

    again = dict(TIES().evaluated(before, replace(ctx, stage=3)))
    assert all(torch.equal(weight, again[name]) for name, weight in once.items())
    assert not list(TIES().evaluated(before, replace(ctx, stage=0)))


@pytest.mark.parametrize("share", [1e-9, 0.001, 0.2, 0.5, 0.999, 1.0])
def test_the_magnitude_of_a_rank_is_exact(share: float) -> None:
    draw = torch.Generator().manual_seed(0)
    vectors = [10.0**scale * torch.randn(31, 7, generator=draw) for scale in (-9, 0, 1, 4)]
    vectors += [torch.zeros(50), torch.full((40,), -0.25)]
    ordered = torch.cat([vector.flatten() for vector in vectors]).abs().sort(descending=True).values

    found = kth_magnitude(lambda: vectors, share)

    assert found == ordered[max(1, round(share * len(ordered))) - 1].item()
