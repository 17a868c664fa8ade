from pathlib import Path

import pytest
import torch

from hpa_bench.baselines.scaled_update import ScaledUpdate
from hpa_bench.hpa import HPA, HPAConfig
from tests.support.stages import random_stage, without_calibration


@pytest.mark.parametrize("orthogonal", [True, False])
def test_the_update_of_each_block_shrinks_by_its_keep_rate(tmp_path: Path, orthogonal: bool) -> None:
    before, after, ctx = random_stage(tmp_path)
    method = ScaledUpdate(HPAConfig(p_max=60, p_min=30, orthogonal=orthogonal))
    assert not method.needs

    blind = without_calibration(ctx)
    adapted = dict(method.adapt(before, after, blind))

    assert len(adapted) == 3 * 7
    for block, rate in zip(ctx.layers, (0.6, 0.5, 0.4), strict=True):
        for name in (f"{layer}.weight" for layer in block):
            w0 = before[name].double()
            d = after[name].double() - w0
            if orthogonal:
                d = d - (d * w0).sum() / (w0 * w0).sum() * w0
            torch.testing.assert_close(adapted[name], (w0 + (1 - rate) * d).float(), rtol=1e-5, atol=1e-6)


def test_the_ends_are_exact(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    none = ScaledUpdate(HPAConfig(p_max=0, p_min=0, orthogonal=False))
    full = ScaledUpdate(HPAConfig(p_max=100, p_min=100))

    assert all(torch.equal(weight, after[name]) for name, weight in none.adapt(before, after, ctx))
    assert all(torch.equal(weight, before[name]) for name, weight in full.adapt(before, after, ctx))


def test_the_orthogonal_step_is_hpas(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    ours, hpa = (dict(method(HPAConfig(p_max=0, p_min=0)).adapt(before, after, ctx)) for method in (ScaledUpdate, HPA))

    assert all(torch.equal(ours[name], hpa[name]) for name in hpa)
    assert any(not torch.equal(ours[name], after[name]) for name in hpa)


def test_bfloat16_weights_are_rounded_once(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    before, after = ({name: tensor.bfloat16() for name, tensor in each.items()} for each in (before, after))

    for name, weight in ScaledUpdate(HPAConfig(p_max=30, p_min=30, orthogonal=False)).adapt(before, after, ctx):
        exact = 0.3 * before[name].double() + 0.7 * after[name].double()
        assert torch.equal(weight, exact.bfloat16())
