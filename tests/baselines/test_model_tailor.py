from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpa_bench.baselines.model_tailor import ModelTailor, ModelTailorConfig, tailor
from hpa_bench.baselines.shared.obs import inverse_factor
from hpa_bench.models.activations import ActivationStream
from tests.support.moments import damped_rows, moments
from tests.support.stages import random_stage

DRAW = torch.Generator().manual_seed(0)
PRE = torch.randn(64, 256, generator=DRAW, dtype=torch.float64)
TUNED = PRE + 0.1 * torch.randn(64, 256, generator=DRAW, dtype=torch.float64)
H = moments(256)
U = inverse_factor(H)


def test_no_update_changes_nothing() -> None:
    assert torch.equal(tailor(PRE, PRE, U, ModelTailorConfig()), PRE)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_that_share_of_each_block_goes_back(sparsity: float) -> None:
    back = tailor(PRE, TUNED, U, ModelTailorConfig(sparsity=sparsity)) == PRE

    for start in (0, 128):
        assert int(back[:, start : start + 128].sum()) == int(sparsity * 64 * 128) + 1


@pytest.mark.parametrize(("compensation", "sign"), [("obs", -1), ("official", 1)])
def test_later_blocks_are_scored_as_compensated_and_every_column_moves_all_later_ones(
    compensation: str, sign: int
) -> None:
    h = moments(24)
    pre, tuned = PRE[:, :24], TUNED[:, 24:48]
    rows, expected = damped_rows(h), tuned.clone()
    d = torch.stack([row[0] for row in rows])
    for block in (slice(0, 10), slice(10, 20), slice(20, 24)):
        score = sum(
            weight * (values - values.mean(1, keepdim=True)) / values.std(1, keepdim=True)
            for weight, values in (
                (0.2, (tuned - pre)[:, block].abs()),
                (0.8, expected[:, block] ** 2 / d[block] ** 2),
            )
        )
        back = score <= score.flatten().sort().values[int(0.5 * score.numel())]
        for k in range(block.start, block.stop):
            error = torch.where(back[:, k - block.start], expected[:, k] - pre[:, k], 0.0) / d[k]
            expected[:, k + 1 :] += sign * error[:, None] * rows[k][1:]
            expected[:, k] = torch.where(back[:, k - block.start], pre[:, k], expected[:, k])

    config = ModelTailorConfig(compensation=compensation, sparsity=0.5, change=0.2, sensitivity=0.8, block=10)
    torch.testing.assert_close(tailor(pre, tuned, inverse_factor(h), config), expected, rtol=1e-8, atol=1e-10)


def test_without_compensation_the_lowest_scores_go_back() -> None:
    found = tailor(PRE, TUNED, U, ModelTailorConfig(compensation="none"))
    change, sensitive = (TUNED - PRE).abs(), TUNED**2 / U.diagonal() ** 2
    score = torch.empty_like(PRE)
    for start in (0, 128):
        part = slice(start, start + 128)
        score[:, part] = sum(
            weight * (values[:, part] - values[:, part].mean(1, keepdim=True)) / values[:, part].std(1, keepdim=True)
            for weight, values in ((0.8, change), (0.2, sensitive))
        )
        back = (found == PRE)[:, part]
        assert score[:, part][back].max() < score[:, part][~back].min()
    assert torch.equal(found, torch.where(found == PRE, PRE, TUNED))


def test_the_derived_sign_is_closest_to_the_fine_tuned_outputs_and_the_codes_sign_farthest() -> None:
    def error(compensation: str) -> float:
        d = tailor(PRE, TUNED, U, ModelTailorConfig(compensation=compensation)) - TUNED
        return float((d @ H * d).sum())

    assert error("obs") < error("none") < error("official")


def test_without_correlations_all_signs_agree() -> None:
    u = inverse_factor(torch.eye(256, dtype=torch.float64))
    results = [tailor(PRE, TUNED, u, ModelTailorConfig(compensation=c)) for c in ("obs", "official", "none")]

    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_a_model_is_edited_from_below_and_blocks_above_see_it(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    config = ModelTailorConfig(block=16)
    found = dict(ModelTailor(config).adapt(before, after, ctx))
    assert len(found) == len(ctx.linear_layers)

    # The same by hand: the last block's H with the edits below in place.
    edited = {**after, **{k: v for block in ctx.layers[:-1] for k, v in found.items() if k[:-7] in block}}
    stream = ActivationStream(ctx.model, edited, ctx.task_calibration())
    for block in range(len(ctx.layers)):
        h = stream.second_moments(block)
    for name in ctx.layers[-1]:
        key = f"{name}.weight"
        ours = tailor(before[key], after[key], inverse_factor(h[name]), config).float()
        torch.testing.assert_close(found[key], ours, rtol=1e-4, atol=1e-5)


def test_no_task_update_leaves_the_model(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    for name, weight in ModelTailor().adapt(before, before, replace(ctx)):
        assert torch.equal(weight, before[name])


def test_bfloat16_weights_stay_bfloat16_and_what_goes_back_is_exact(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    before, after = ({name: weight.bfloat16() for name, weight in weights.items()} for weights in (before, after))

    for name, weight in ModelTailor().adapt(before, after, ctx):
        assert weight.dtype == torch.bfloat16
        assert (weight == before[name]).float().mean() >= 0.9
