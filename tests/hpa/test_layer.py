"""`adapt_layer` on one layer, against `tests.support.derivation`."""

import numpy as np
import pytest
import torch

from hpa_bench.errors import UserError
from hpa_bench.hpa import HPAConfig, adapt_layer
from tests.support import derivation
from tests.support.derivation import Case, random_case, second_moments


def run(
    case: Case, percent: float = 10.0, dtype: torch.dtype = torch.float64, **options: object
) -> tuple[torch.Tensor, torch.Tensor]:
    return adapt_layer(
        torch.tensor(case.before, dtype=dtype),
        torch.tensor(case.after, dtype=dtype),
        torch.tensor(second_moments(case.x_safety), dtype=dtype),
        torch.tensor(second_moments(case.x_task), dtype=dtype),
        percent,
        HPAConfig(**options),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("selection", ["full", "safety_focused", "balanced", "none"])
@pytest.mark.parametrize("saliency", ["divide", "multiply"])
@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("percent", [5.0, 15.0, 40.0])
@pytest.mark.parametrize("shared", ["overlap", "union"])
def test_every_switch_agrees_with_the_derivation(
    selection: str, saliency: str, orthogonal: bool, percent: float, shared: str
) -> None:
    for seed in range(3):
        case = random_case(seed)
        expected = derivation.kept_columns(case, percent, selection, saliency, shared)

        adapted, kept = run(case, percent, selection=selection, saliency=saliency, orthogonal=orthogonal, shared=shared)

        assert set(kept.nonzero().flatten().tolist()) == expected
        np.testing.assert_allclose(adapted, derivation.adapted(case, expected, orthogonal), rtol=0, atol=1e-13)


def test_float32_agrees_with_the_derivation_to_float32_rounding() -> None:
    case = random_case(0)
    expected = derivation.kept_columns(case, 10.0)

    adapted, kept = run(case, dtype=torch.float32)

    assert adapted.dtype == torch.float32
    assert set(kept.nonzero().flatten().tolist()) == expected
    np.testing.assert_allclose(adapted, derivation.adapted(case, expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_changes_where_tuning_changed_nothing(dtype: torch.dtype) -> None:
    case = random_case()
    case.before[0, :3] = -0.0
    bits = torch.int32 if dtype == torch.float32 else torch.int16

    adapted, _ = run(case._replace(after=case.before), dtype=dtype)

    assert torch.equal(adapted.view(bits), torch.tensor(case.before, dtype=dtype).view(bits))


def test_keeping_nothing_without_the_orthogonal_step_is_w1() -> None:
    case = random_case()

    adapted, kept = run(case, 0.0, torch.float32, orthogonal=False)

    assert not kept.any()
    assert torch.equal(adapted, torch.tensor(case.after, dtype=torch.float32))


def test_keeping_everything_is_w0() -> None:
    case = random_case()

    adapted, kept = run(case, 100.0, torch.float32)

    assert kept.all()
    assert torch.equal(adapted, torch.tensor(case.before, dtype=torch.float32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_kept_columns_equal_w0_exactly(dtype: torch.dtype) -> None:
    case = random_case()

    adapted, kept = run(case, dtype=dtype)

    assert kept.dtype == torch.bool
    assert adapted.dtype == dtype
    assert torch.equal(adapted[:, kept], torch.tensor(case.before, dtype=dtype)[:, kept])


def test_permuting_the_columns_permutes_the_mask() -> None:
    case = random_case()
    order = np.random.default_rng(1).permutation(case.before.shape[1])
    permuted = Case(*(array[:, order] for array in case))

    adapted, kept = run(case)
    adapted_permuted, kept_permuted = run(permuted)

    assert torch.equal(kept_permuted, kept[order])
    np.testing.assert_allclose(adapted_permuted, adapted[:, order], rtol=0, atol=1e-13)


def test_zero_w0_gives_finite_weights() -> None:
    case = random_case()
    case.before[:] = 0

    adapted, kept = run(case)

    assert torch.equal(adapted[:, ~kept], torch.tensor(case.after)[:, ~kept])


def test_h_of_another_layer_is_refused() -> None:
    with pytest.raises(UserError, match="W0 and W1 have 3 columns, and H has 5"):
        adapt_layer(torch.ones(2, 3), torch.zeros(2, 3), torch.eye(5), torch.eye(3))
