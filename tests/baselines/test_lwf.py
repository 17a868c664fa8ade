import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpa_bench.baselines.lwf import LwF, LwFConfig, distillation
from tests.support.adapted import adapted_model
from tests.support.stages import coloured_samples, random_stage
from tests.support.training import samples, trained


def test_two_words_by_hand() -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2) at temperature 1."""
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)

    assert float(distillation(student, teacher, 1.0)) == pytest.approx(expected, rel=1e-6)


def test_it_is_never_negative_and_zero_for_equal_logits() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 11, generator=draw) for _ in range(2))

    assert float(distillation(a, b, 2.0)) > 0
    assert float(distillation(a, a, 2.0)) == pytest.approx(0.0, abs=1e-6)


def test_at_a_high_temperature_it_is_half_the_mean_squared_distance_of_centred_logits() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 8, generator=draw).double() for _ in range(2))
    centred = (a - a.mean(1, keepdim=True)) - (b - b.mean(1, keepdim=True))

    expected = float(centred.square().sum() / 16)

    assert 300.0**2 * float(distillation(a, b, 300.0)) == pytest.approx(expected, rel=0.02)


def probability_at_the_optimum(strength: float, sure: float) -> float:
    """Return the student's probability of the right one of two tokens where cross entropy + penalty is least.

    The teacher gives the wrong token the probability `sure`.
    """
    teacher = torch.tensor([[1 - sure, sure]]).log()
    right = torch.linspace(0.001, 0.999, 999)
    losses = [
        -math.log(p) + strength * float(distillation(torch.tensor([[p, 1 - p]]).log(), teacher, 2.0))
        for p in right.tolist()
    ]
    return float(right[losses.index(min(losses))])


def test_a_teacher_sure_of_the_wrong_token_can_be_unlearned() -> None:
    config = LwFConfig()
    assert config.temperature == 2.0

    assert probability_at_the_optimum(config.strength, sure=0.95) == pytest.approx(0.77, abs=0.005)
    assert probability_at_the_optimum(config.strength, sure=1 - 1e-6) > 0.5


def test_with_hintons_factor_it_cannot() -> None:
    assert probability_at_the_optimum(4.0, sure=0.95) == pytest.approx(0.44, abs=0.005)


def loss_of(method: LwF, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> float:
    loss = method.token_penalty(model, batch, model(**batch))
    assert loss is not None
    return float(loss)


def test_only_answer_tokens_count_against_the_model_without_its_adapter(tmp_path: Path) -> None:
    method = LwF(LwFConfig(strength=0.5, temperature=3.0))
    model, ctx = adapted_model(tmp_path, method)
    batch = dict(ctx.collate(coloured_samples(4)))
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with torch.no_grad():
        z = model(**inputs).logits.double()
        with model.disable_adapter():
            t = model(**inputs).logits.double()
    expected = 0.0
    for row, labels in enumerate(batch["labels"].tolist()):
        for place, label in enumerate(labels):
            if label != -100:
                p, q = (logits[row, place - 1].div(3.0).softmax(-1) for logits in (t, z))
                expected += float((p * (p.log() - q.log())).sum())

    assert loss_of(method, model, batch) == pytest.approx(0.5 * expected, rel=1e-3)
    assert expected > 0


def test_a_fresh_adapter_is_its_own_teacher_with_no_loss(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    method = LwF()
    model = method.wrap(ctx.model, ctx).eval()

    assert loss_of(method, model, dict(ctx.collate(coloured_samples(3)))) == pytest.approx(0.0, abs=1e-6)


def test_the_aligned_teacher_is_theta_0_not_the_model_before(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)
    start = {name: tensor * 1.05 for name, tensor in before.items()}
    method = LwF(LwFConfig(teacher="aligned"))
    model = method.wrap(ctx.model, replace(ctx, start=start)).eval()
    batch = dict(ctx.collate(coloured_samples(3)))

    assert loss_of(method, model, batch) > 1e-4

    _, _, ctx = random_stage(tmp_path)
    same = LwF(LwFConfig(teacher="aligned"))
    assert loss_of(same, same.wrap(ctx.model, ctx).eval(), batch) == pytest.approx(0.0, abs=1e-6)


def test_no_strength_is_no_penalty(tmp_path: Path) -> None:
    model, ctx = adapted_model(tmp_path)
    batch = dict(ctx.collate(coloured_samples(2)))

    assert LwF(LwFConfig(strength=0)).token_penalty(model, batch, model(**batch)) is None


@pytest.mark.slow
def test_accumulation_changes_nothing_though_answers_differ_in_length(tmp_path: Path) -> None:
    method = LwF(LwFConfig(strength=2.0))
    whole = trained(tmp_path / "whole", samples(8), method, batch_size=8, epochs=3)
    parts = trained(tmp_path / "parts", samples(8), method, batch_size=1, gradient_accumulation=8, epochs=3)
    without = trained(tmp_path / "without", samples(8), batch_size=8, epochs=3)

    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-2, atol=1e-5)
    assert any(not torch.allclose(without[name], tensor, atol=1e-4) for name, tensor in whole.items())
