"""HPA on a random LLaVA: what `adapt` yields, against `adapt_layer` and the derivation."""

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpa_bench.errors import UserError
from hpa_bench.hpa import HPA, HPAConfig, adapt_layer, keep_percent_at
from hpa_bench.hpa.adjustment import adjust
from hpa_bench.hpa.partition import inverse_diagonals
from hpa_bench.method import Method, StageContext
from hpa_bench.models.activations import ActivationStream
from tests.support.stages import merged_stage, random_stage

Weights = dict[str, Tensor]


def moments(ctx: StageContext, weights: Weights, samples: str) -> Weights:
    stream = ActivationStream(ctx.model, weights, getattr(ctx, f"{samples}_calibration")())
    return {name: h for block in range(len(ctx.layers)) for name, h in stream.second_moments(block).items()}


def test_hpa_is_a_method_with_both_calibration_sets() -> None:
    assert issubclass(HPA, Method)
    assert HPA.name == "hpa"
    assert HPA().needs == {"safety_calibration", "task_calibration"}


@pytest.mark.parametrize(
    ("hessian_model", "safety_from", "task_from"), [("own", 0, 1), ("before", 0, 0), ("after", 1, 1)]
)
def test_every_linear_layer_of_the_decoder_is_adapted_at_its_blocks_rate(
    tmp_path: Path, hessian_model: str, safety_from: int, task_from: int
) -> None:
    before, after, ctx = random_stage(tmp_path)
    config = HPAConfig(p_max=40, p_min=10, hessian_model=hessian_model)  # type: ignore[arg-type]
    safety = moments(ctx, (before, after)[safety_from], "safety")
    task = moments(ctx, (before, after)[task_from], "task")

    adapted = dict(HPA(config).adapt(before, after, ctx))

    assert list(adapted) == [f"{name}.weight" for name in ctx.linear_layers]
    for index, block in enumerate(ctx.layers):
        for name in block:
            key = f"{name}.weight"
            percent = keep_percent_at(index, 3, 40, 10)
            expected, _ = adapt_layer(before[key], after[key], safety[name], task[name], percent, config)
            assert torch.equal(adapted[key], expected), name


def test_the_weights_passed_in_are_left_alone(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    copies = [{name: tensor.clone() for name, tensor in weights.items()} for weights in (before, after)]

    dict(HPA().adapt(before, after, ctx))

    for weights, copy in zip((before, after), copies, strict=True):
        assert all(torch.equal(weights[name], copy[name]) for name in copy)


def test_a_stage_that_changed_nothing_ends_where_it_began(tmp_path: Path) -> None:
    before, _, ctx = random_stage(tmp_path)

    adapted = dict(HPA().adapt(before, before, ctx))

    assert all(torch.equal(weight, before[name]) for name, weight in adapted.items())


def test_keeping_nothing_without_the_orthogonal_step_hands_on_the_tuned_model(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)

    adapted = dict(HPA(HPAConfig(p_max=0, p_min=0, orthogonal=False)).adapt(before, after, ctx))

    assert all(torch.equal(weight, after[name]) for name, weight in adapted.items())


def test_keeping_everything_hands_on_the_model_before_the_stage(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)

    adapted = dict(HPA(HPAConfig(p_max=100, p_min=100)).adapt(before, after, ctx))

    assert all(torch.equal(weight, before[name]) for name, weight in adapted.items())


def test_calibration_activations_that_are_not_finite_name_the_layer(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    after["model.language_model.layers.1.input_layernorm.weight"] = torch.full((32,), torch.nan)

    with pytest.raises(UserError, match=r"layer 'model.language_model.layers.1.self_attn.q_proj' hold NaN or Inf"):
        dict(HPA().adapt(before, after, ctx))


def test_an_h_without_an_inverse_names_the_layer(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    one = [{name: tensor[:1] for name, tensor in ctx.safety_calibration()[0].items()}]

    with pytest.raises(UserError, match=r"Layer 'model.language_model.layers.0.self_attn.q_proj': .*positive definite"):
        dict(HPA(HPAConfig(damping=0)).adapt(before, after, replace(ctx, safety_calibration=lambda: one)))


def test_weights_that_are_not_finite_name_the_layer(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    name = "model.language_model.layers.2.mlp.down_proj"
    after[f"{name}.weight"] = after[f"{name}.weight"].clone()
    after[f"{name}.weight"][0, 0] = torch.nan

    with pytest.raises(UserError, match=f"Layer '{name}': .*NaN or Inf"):
        dict(HPA().adapt(before, after, ctx))


def along(before: Tensor, edited: Tensor) -> float:
    """Return the share of W0 in an update."""
    w0 = before.double()
    return float(((edited.double() - w0) * w0).sum() / w0.square().sum())


def test_the_orthogonal_step_survives_bfloat16(tmp_path: Path) -> None:
    """Taken on a merge that is rounded already, it would be lost: it moves weights by less than a step of bfloat16."""
    before, after, ctx = merged_stage(tmp_path, share=0.03)
    left, lost, had = 0.0, 0.0, 0.0
    for name, edited in HPA(HPAConfig(p_max=0, p_min=0)).adapt(before, after, ctx):
        assert edited.dtype == torch.bfloat16
        rounded = after[name]
        twice = adjust(before[name], rounded, torch.zeros(rounded.shape[1], dtype=torch.bool))
        left += along(before[name], edited) ** 2
        lost += along(before[name], twice) ** 2
        had += along(before[name], rounded) ** 2

    assert left < had / 50 and lost > had / 2


def test_nothing_to_edit_is_the_merge_itself_in_bfloat16(tmp_path: Path) -> None:
    before, after, ctx = merged_stage(tmp_path)

    for name, edited in HPA(HPAConfig(p_max=0, p_min=0, orthogonal=False)).adapt(before, after, ctx):
        assert torch.equal(edited, after[name])


class Lent(Mapping[str, Tensor]):
    """Weights as files give them, a copy each time, and which of these are still held."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._lent: list[tuple[str, weakref.ref[Tensor]]] = []

    def __getitem__(self, name: str) -> Tensor:
        copy = self._weights[name].clone()
        self._lent.append((name, weakref.ref(copy)))
        return copy

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    @property
    def held(self) -> list[str]:
        return [name for name, copy in self._lent if copy() is not None]


def test_nothing_of_a_block_is_held_while_the_next_is_inverted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, ctx = random_stage(tmp_path)
    lent = Lent(before), Lent(after)
    held: list[list[str]] = []

    def inverting(moments: Weights, damping: float) -> Weights:
        held.append([*lent[0].held, *lent[1].held])
        return dict(inverse_diagonals(moments, damping))

    monkeypatch.setattr("hpa_bench.hpa.method.inverse_diagonals", inverting)
    for _ in HPA().adapt(*lent, ctx):
        assert lent[0].held and lent[1].held

    assert held == [[]] * 6
