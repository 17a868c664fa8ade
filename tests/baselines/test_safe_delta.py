from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpa_bench.baselines.safe_delta import SafeDelta, SafeDeltaConfig, safe_delta
from hpa_bench.baselines.shared.obs import inverse_factor
from tests.support.moments import damped_rows, moments
from tests.support.stages import random_stage

DRAW = torch.Generator().manual_seed(0)
W = torch.randn(24, 32, generator=DRAW, dtype=torch.float64)
TUNED = W + 0.1 * torch.randn(24, 32, generator=DRAW, dtype=torch.float64)
U = inverse_factor(moments(32))


def taken(s: float, never: float = 0.15, u: torch.Tensor = U) -> torch.Tensor:
    return safe_delta(W, TUNED, u, SafeDeltaConfig(s=s, never=never)) == TUNED


def test_no_budget_gives_the_safe_weights_and_no_update_changes_nothing() -> None:
    assert torch.equal(safe_delta(W, TUNED, U, SafeDeltaConfig(s=0.0)), W)
    assert torch.equal(safe_delta(W, W, U, SafeDeltaConfig()), W)


def test_an_endless_budget_takes_all_but_the_most_costly_15_percent() -> None:
    mask = taken(s=1e30)

    assert int(mask.sum()) == 24 * 32 - int(0.15 * 24 * 32)
    cost = U.diagonal() ** -2
    assert cost[mask.all(0)].max() <= cost[~mask.any(0)].min()
    assert taken(s=1e30, never=0.0).all()


def test_more_budget_never_takes_less_and_stays_within_it() -> None:
    counts = []
    for s in (0.01, 0.1, 1.0, 10.0, 100.0):
        config = SafeDeltaConfig(s=s, step=32)
        mask = safe_delta(W, TUNED, U, config) == TUNED
        loss = (TUNED - W) ** 2 / U.diagonal() ** 2
        assert float(loss[mask].sum()) <= s / 2 * float((U.diagonal() ** -2).mean()) * 24 / 4096
        counts.append(int(mask.sum()))

    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_entries_are_taken_cheapest_first_as_the_formula_says() -> None:
    s = 30.0
    cost = U.diagonal() ** -2
    budget, spent = s / 2 * float(cost.mean()) * 24 / 4096, 0.0
    expected = torch.zeros(24, 32, dtype=torch.bool)
    ranked = [(float(cost[k]), k, j) for k in range(32) for j in range(24)]
    for number, (_, k, j) in enumerate(sorted(ranked)):
        spent += float((TUNED[j, k] - W[j, k]) ** 2 * cost[k])
        expected[j, k] = spent <= budget and number < 24 * 32 - int(0.15 * 24 * 32)

    assert expected.any() and not expected.all()
    assert torch.equal(taken(s), expected)


def test_without_correlations_nothing_is_compensated() -> None:
    u = inverse_factor(torch.diag(torch.linspace(1, 2, 32, dtype=torch.float64)))
    found = safe_delta(W, TUNED, u, SafeDeltaConfig(s=50.0))

    assert torch.equal(found, torch.where(found == TUNED, TUNED, W))
    assert 0 < int((found == TUNED).sum()) < found.numel()


@pytest.mark.parametrize("step", [1, 4])
def test_compensation_costs_less_safety_than_the_mask_alone_and_that_less_than_the_fine_tuned_weights(
    step: int,
) -> None:
    h = moments(32)
    found = safe_delta(W, TUNED, U, SafeDeltaConfig(s=200.0, step=step))
    mask = found == TUNED

    def error(weight: torch.Tensor) -> float:
        d = weight - W
        return float((d @ h * d).sum())

    assert mask.any()
    assert error(found) < error(torch.where(mask, TUNED, W)) < error(TUNED)


def test_later_blocks_are_ranked_as_compensated_and_four_columns_move_all_later_ones() -> None:
    s, never = 300.0, 0.15
    rows, expected = damped_rows(moments(32)), W.clone()
    d = torch.stack([row[0] for row in rows])
    partly = 0
    for start, end in ((0, 10), (10, 20), (20, 30), (30, 32)):
        cost, count = d[start:end] ** -2, 24 * (end - start)
        budget, spent = s / 2 * float(cost.mean()) * 24 / 4096, 0.0
        chosen = torch.zeros(24, 32, dtype=torch.bool)
        ranked = sorted((float(d[k] ** -2), k, j) for k in range(start, end) for j in range(24))
        for each, k, j in ranked[: count - int(never * count)]:
            spent += float((TUNED[j, k] - expected[j, k]) ** 2) * each
            chosen[j, k] = spent <= budget
        partly += 0 < int(chosen.sum()) < count - int(never * count)
        for first in range(start, end, 4):
            later = min(first + 4, end)
            for k in range(first, later):
                error = torch.where(chosen[:, k], expected[:, k] - TUNED[:, k], 0.0) / d[k]
                expected[:, later:] -= error[:, None] * rows[k][later - k :]
                expected[:, k] = torch.where(chosen[:, k], TUNED[:, k], expected[:, k])

    assert partly >= 2
    found = safe_delta(W, TUNED, U, SafeDeltaConfig(s=s, block=10))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_blocks_have_budgets_of_their_own() -> None:
    blocks = safe_delta(W, TUNED, U, SafeDeltaConfig(s=1e30, block=8)) == TUNED

    assert [int(blocks[:, start : start + 8].sum()) for start in range(0, 32, 8)] == [192 - int(0.15 * 192)] * 4


@pytest.mark.parametrize("reference", ["prev", "init"])
def test_a_model_without_budget_is_the_reference(reference: str, tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    start = {name: tensor + 0.01 for name, tensor in before.items()}
    ctx = replace(ctx, start=start)
    found = dict(SafeDelta(SafeDeltaConfig(s=0.0, reference=reference)).adapt(before, after, ctx))

    assert len(found) == len(ctx.linear_layers)
    for name, weight in found.items():
        assert torch.equal(weight, (before if reference == "prev" else start)[name])


def test_the_aligned_models_moments_are_measured_once_a_run(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    method = SafeDelta(SafeDeltaConfig(s=5.0, reference="init"))
    first = dict(method.adapt(before, after, ctx))

    def refused(count: int | None = None) -> list[dict[str, torch.Tensor]]:
        raise AssertionError("calibration samples were asked for again")

    again = dict(SafeDelta(method.config).adapt(before, after, replace(ctx, stage=2, safety_calibration=refused)))

    assert all(torch.equal(again[name], weight) for name, weight in first.items())
    assert any(not torch.equal(weight, before[name]) for name, weight in first.items())


@pytest.mark.parametrize("reference", ["prev", "init"])
def test_it_calibrates_on_a_number_of_samples_of_its_own(reference: str, tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    asked: list[int | None] = []

    def samples(count: int | None = None) -> Sequence[dict[str, torch.Tensor]]:
        asked.append(count)
        return ctx.safety_calibration()

    for config in ({}, {"calibration_samples": 5}):
        method = SafeDelta(SafeDeltaConfig(reference=reference, **config))
        dict(method.adapt(before, after, replace(ctx, folder=tmp_path / str(len(config)), safety_calibration=samples)))

    assert asked == [128, 5]


def test_bfloat16_weights_stay_bfloat16_and_what_is_taken_is_exact(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    before, after = ({name: weight.bfloat16() for name, weight in weights.items()} for weights in (before, after))

    for name, weight in SafeDelta(SafeDeltaConfig(s=1e30, never=0.0)).adapt(before, after, ctx):
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, after[name])
