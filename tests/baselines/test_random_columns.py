from dataclasses import replace
from pathlib import Path

import torch

from hpa_bench.baselines.random_columns import RandomColumns, RandomColumnsConfig
from hpa_bench.hpa import HPA, HPAConfig, Layer, keep_percent_at
from hpa_bench.method import StageContext
from tests.support.stages import kept_columns, random_stage, without_calibration

PLAIN = {"p_max": 40.0, "p_min": 20.0, "orthogonal": False}


def test_matching_columns_keeps_as_many_columns_as_hpa_and_needs_no_calibration(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    hpa = dict(HPA(HPAConfig(**PLAIN)).adapt(before, after, ctx))
    control = RandomColumns(RandomColumnsConfig(**PLAIN))
    assert not control.needs
    blind = without_calibration(ctx)

    adapted = dict(control.adapt(before, after, blind))

    assert list(adapted) == list(hpa)
    for name, weight in adapted.items():
        assert kept_columns(weight, before[name]).sum() == kept_columns(hpa[name], before[name]).sum() > 0
    assert any(
        not torch.equal(kept_columns(adapted[name], before[name]), kept_columns(hpa[name], before[name]))
        for name in hpa
    )


def test_matching_the_norm_reverts_as_much_of_the_update_as_hpa_to_within_one_column(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    hpa = dict(HPA(HPAConfig(**PLAIN)).adapt(before, after, ctx))
    control = RandomColumns(RandomColumnsConfig(match="norm", **PLAIN))
    assert control.needs == HPA.needs

    adapted = dict(control.adapt(before, after, ctx))

    for name, weight in adapted.items():
        norms = (after[name] - before[name]).double().square().sum(0)
        ours, hpas = (norms[kept_columns(each, before[name])] for each in (weight, hpa[name]))
        assert ours.sum() >= hpas.sum() * (1 - 1e-9)
        assert ours.sum() - ours.max() < hpas.sum()


def test_the_columns_depend_on_seed_stage_and_layer_alone(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    key = f"{ctx.layers[0][0]}.weight"

    def columns(ctx: StageContext, layer: int = 0) -> list[bool]:
        name = ctx.layers[0][layer]
        weight = dict(RandomColumns(RandomColumnsConfig(**PLAIN)).adapt(before, after, ctx))[f"{name}.weight"]
        return kept_columns(weight, before[f"{name}.weight"]).tolist()

    assert columns(ctx) == columns(ctx)
    others = [columns(replace(ctx, seed=1)), columns(replace(ctx, stage=2)), columns(ctx, layer=1)]
    assert columns(ctx) not in others
    assert before[key].shape[1] == len(columns(ctx))


def test_the_orthogonal_step_is_hpas(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    options = {"p_max": 0.0, "p_min": 0.0}

    ours = dict(RandomColumns(RandomColumnsConfig(**options)).adapt(before, after, ctx))
    hpa = dict(HPA(HPAConfig(**options)).adapt(before, after, ctx))

    assert all(torch.equal(ours[name], hpa[name]) for name in hpa)
    assert any(not torch.equal(ours[name], after[name]) for name in hpa)


def test_nothing_to_revert_keeps_no_column(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    weight, ones = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.ones(8, dtype=torch.float64)
    layer = Layer("layer", weight, weight, keep_percent_at(0, 1), ones, ones)

    assert not RandomColumns(RandomColumnsConfig(match="norm")).choose_columns(layer, ctx).any()
