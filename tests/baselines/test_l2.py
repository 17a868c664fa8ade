from pathlib import Path

import pytest
import torch

from hpa_bench.baselines.l2 import L2, L2Config
from hpa_bench.models.adapters import lora_factors
from tests.support.adapted import adapted_model
from tests.support.training import samples, trained


def test_the_penalty_is_the_squared_norm_of_the_merged_update(tmp_path: Path) -> None:
    model, _ = adapted_model(tmp_path)
    dense = sum(float((f.scale * f.b.double() @ f.a.double()).square().sum()) for f in lora_factors(model))

    penalty = L2(L2Config(strength=3.0)).penalty(model, {}, None)

    assert penalty is not None
    assert float(penalty) == pytest.approx(1.5 * dense, rel=1e-5)


def test_its_gradient_is_that_of_the_dense_formula(tmp_path: Path) -> None:
    model, _ = adapted_model(tmp_path)
    layer = next(iter(lora_factors(model)))
    penalty = L2(L2Config(strength=2.0)).penalty(model, {}, None)
    assert penalty is not None

    (ours,) = torch.autograd.grad(penalty, layer.a)

    expected = (
        2.0 * layer.scale**2 * layer.b.detach().double().T @ (layer.b.detach().double() @ layer.a.detach().double())
    )
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-6)


def test_no_strength_is_no_penalty(tmp_path: Path) -> None:
    model, _ = adapted_model(tmp_path)

    assert L2(L2Config(strength=0)).penalty(model, {}, None) is None


@pytest.mark.slow
def test_a_great_strength_leaves_nothing_of_the_update(tmp_path: Path) -> None:
    def size(strength: float) -> float:
        found = trained(tmp_path / str(strength), samples(8), L2(L2Config(strength=strength)), epochs=4, batch_size=4)
        factors = {name: tensor for name, tensor in found.items() if "lora" in name}
        return sum(
            float((factors[name.replace("lora_A", "lora_B")] @ tensor).norm())
            for name, tensor in factors.items()
            if "lora_A" in name
        )

    assert size(1e4) < 0.97 * size(0.0)


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    method = L2(L2Config(strength=0.5))
    whole = trained(tmp_path / "whole", samples(8), method, batch_size=8)
    parts = trained(tmp_path / "parts", samples(8), method, batch_size=1, gradient_accumulation=8)

    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-6)
