from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpa_bench.baselines.wise_ft import WiSEFT, WiSEFTConfig
from hpa_bench.models.weights import overlaid
from tests.support.stages import random_stage


def interpolated(folder: Path, a: float = 0.5, reference: str = "previous") -> tuple[dict[str, Tensor], ...]:
    """Return theta_0, theta_{t-1}, theta_t^ft and theta_t of a stage whose theta_{t-1} is not theta_0."""
    before, after, ctx = random_stage(folder)
    start = {name: tensor * 1.5 for name, tensor in before.items()}
    method = WiSEFT(WiSEFTConfig(a=a, reference=reference))  # type: ignore[arg-type]
    return start, before, after, dict(method.adapt(before, after, replace(ctx, start=start)))


@pytest.mark.parametrize("reference", ["previous", "aligned"])
def test_the_weights_lie_on_the_line(tmp_path: Path, reference: str) -> None:
    start, before, after, theta = interpolated(tmp_path, 0.3, reference)

    assert len(theta) == 3 * 7
    for name, weight in theta.items():
        origin = (before if reference == "previous" else start)[name].double()
        expected = 0.7 * origin + 0.3 * after[name].double()
        torch.testing.assert_close(weight, expected.float(), rtol=1e-6, atol=1e-7)


def test_half_of_the_way_is_the_default(tmp_path: Path) -> None:
    _, before, after, theta = interpolated(tmp_path)

    assert WiSEFTConfig() == WiSEFTConfig(a=0.5, reference="previous")
    for name, weight in theta.items():
        torch.testing.assert_close(weight, (before[name] + after[name]) / 2)


@pytest.mark.parametrize("reference", ["previous", "aligned"])
def test_the_ends_of_the_line_are_exact(tmp_path: Path, reference: str) -> None:
    _, _, after, tuned = interpolated(tmp_path, 1, reference)
    start, before, _, frozen = interpolated(tmp_path, 0, reference)

    origin = before if reference == "previous" else start
    assert all(torch.equal(tensor, after[name]) for name, tensor in overlaid(tuned, after).items())
    assert len(frozen) == 3 * 7
    assert all(torch.equal(weight, origin[name]) for name, weight in frozen.items())


def test_bfloat16_weights_stay_bfloat16_and_are_computed_in_more(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    before, after = ({name: tensor.bfloat16() for name, tensor in each.items()} for each in (before, after))

    for name, weight in WiSEFT(WiSEFTConfig(a=0.3)).adapt(before, after, ctx):
        exact = 0.7 * before[name].double() + 0.3 * after[name].double()
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(weight.double(), exact, rtol=2**-8 + 1e-6, atol=1e-9)
