from pathlib import Path

import pytest
import torch

from hpa_bench.baselines.magnitude_columns import MagnitudeColumns
from hpa_bench.hpa import HPA, HPAConfig, Layer
from tests.support.stages import kept_columns, random_stage, without_calibration

PLAIN = {"p_max": 40.0, "p_min": 20.0, "orthogonal": False}


def test_the_columns_that_changed_most_are_kept_as_many_as_hpa_keeps(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    hpa = dict(HPA(HPAConfig(**PLAIN)).adapt(before, after, ctx))
    control = MagnitudeColumns(HPAConfig(**PLAIN))
    assert not control.needs

    blind = without_calibration(ctx)
    adapted = dict(control.adapt(before, after, blind))

    assert list(adapted) == list(hpa)
    for name, weight in adapted.items():
        columns, norms = kept_columns(weight, before[name]), (after[name] - before[name]).double().norm(dim=0)
        assert columns.sum() == kept_columns(hpa[name], before[name]).sum() > 0
        assert norms[columns].min() > norms[~columns].max()
        assert torch.equal(weight[:, ~columns], after[name][:, ~columns])


def test_with_inputs_alike_in_every_direction_it_is_hpas_choice_by_safety() -> None:
    draw = torch.Generator().manual_seed(0)
    before, after, ones = torch.randn(6, 20, generator=draw), torch.randn(6, 20, generator=draw), torch.ones(20)
    layer = Layer("layer", before, after, 30.0, ones.double(), ones.double())
    config = HPAConfig(selection="safety_focused")

    chosen = MagnitudeColumns(config).choose_columns(layer, None)  # type: ignore[arg-type]

    assert torch.equal(chosen, layer.select(config)) and chosen.sum() == 6


def test_of_equal_columns_the_first_are_kept() -> None:
    layer = Layer("layer", torch.zeros(4, 10), torch.ones(4, 10), 30.0, None, None)

    chosen = MagnitudeColumns().choose_columns(layer, None)  # type: ignore[arg-type]

    assert chosen.tolist() == [True] * 3 + [False] * 7


@pytest.mark.parametrize("orthogonal", [True, False])
def test_without_columns_it_is_hpa_without_columns(tmp_path: Path, orthogonal: bool) -> None:
    before, after, ctx = random_stage(tmp_path)
    config = HPAConfig(p_max=0, p_min=0, orthogonal=orthogonal)

    ours, hpa = (dict(method(config).adapt(before, after, ctx)) for method in (MagnitudeColumns, HPA))

    assert all(torch.equal(ours[name], hpa[name]) for name in hpa)
    assert all(torch.equal(ours[name], after[name]) for name in hpa) is not orthogonal
