from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpa_bench.baselines.relative_columns import RelativeColumns
from hpa_bench.hpa import HPA, HPAConfig, Layer
from tests.support.stages import kept_columns, random_stage, without_calibration

PLAIN = {"p_max": 40.0, "p_min": 20.0, "orthogonal": False}


def test_the_columns_that_changed_most_for_their_size_are_kept_as_many_as_hpa_keeps(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    hpa = dict(HPA(HPAConfig(**PLAIN)).adapt(before, after, ctx))
    control = RelativeColumns(HPAConfig(**PLAIN))
    assert not control.needs

    blind = without_calibration(ctx)
    adapted = dict(control.adapt(before, after, blind))

    assert list(adapted) == list(hpa)
    for name, weight in adapted.items():
        columns = kept_columns(weight, before[name])
        ratios = (after[name] - before[name]).double().norm(dim=0) / before[name].double().norm(dim=0)
        assert columns.sum() == kept_columns(hpa[name], before[name]).sum() > 0
        assert ratios[columns].min() > ratios[~columns].max()
        assert torch.equal(weight[:, ~columns], after[name][:, ~columns])


def chosen(before: Tensor, after: Tensor, percent: float) -> list[int]:
    layer = Layer("layer", before, after, percent, None, None)
    return RelativeColumns().choose_columns(layer, None).nonzero().flatten().tolist()  # type: ignore[arg-type]


def test_a_small_column_comes_before_a_large_one_that_changed_as_much() -> None:
    before = torch.tensor([1.0, 8.0, 4.0, 2.0]) * torch.ones(3, 1)

    assert chosen(before, before + 1, 50) == [0, 3]
    assert chosen(before, 2 * before, 50) == [0, 1], "of equal ones the first are kept"


def test_columns_of_zeros_come_first_where_they_changed_and_last_where_not() -> None:
    before = torch.tensor([1.0, 0.0, 1.0, 0.0]) * torch.ones(3, 1)
    after = torch.tensor([1.5, 0.0, 9.0, 1e-3]) * torch.ones(3, 1)

    assert [chosen(before, after, percent) for percent in (25, 50, 75)] == [[3], [2, 3], [0, 2, 3]]


def test_the_scale_of_a_column_does_not_matter() -> None:
    draw = torch.Generator().manual_seed(0)
    before, update = torch.randn(6, 20, generator=draw), torch.randn(6, 20, generator=draw)
    scale = torch.logspace(-2, 2, 20)

    assert chosen(before, before + update, 30) == chosen(before * scale, (before + update) * scale, 30)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_without_columns_it_is_hpa_without_columns(tmp_path: Path, orthogonal: bool) -> None:
    before, after, ctx = random_stage(tmp_path)
    config = HPAConfig(p_max=0, p_min=0, orthogonal=orthogonal)

    ours, hpa = (dict(method(config).adapt(before, after, ctx)) for method in (RelativeColumns, HPA))

    assert all(torch.equal(ours[name], hpa[name]) for name in hpa)
    assert all(torch.equal(ours[name], after[name]) for name in hpa) is not orthogonal
