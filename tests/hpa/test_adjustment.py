import numpy as np
import torch

from hpa_bench.hpa.adjustment import adjust, orthogonal_update
from tests.support import derivation


def test_what_is_left_of_the_update_is_orthogonal_to_w0() -> None:
    case = derivation.random_case()
    before, after = torch.tensor(case.before), torch.tensor(case.after)

    left = orthogonal_update(before, after) - before

    assert abs((left * before).sum()) < 1e-12 * left.norm() * before.norm()
    np.testing.assert_allclose(orthogonal_update(before, after), derivation.adapted(case, set()), rtol=0, atol=1e-14)


def test_float32_weights_are_orthogonal_to_float32_rounding() -> None:
    case = derivation.random_case()
    before, after = torch.tensor(case.before).float(), torch.tensor(case.after).float()

    left = (orthogonal_update(before, after) - before).double()

    assert abs((left * before).sum()) < 1e-6 * left.norm() * before.double().norm()


def test_an_orthogonal_update_is_left_alone_bit_for_bit() -> None:
    before = torch.tensor([[1.0, 0.0], [0.0, -0.0]])
    after = torch.tensor([[1.0, 3.0], [-2.0, -0.0]])

    assert same_bits(orthogonal_update(before, after), after)


def test_zero_w0_divides_by_nothing() -> None:
    after = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    assert torch.equal(orthogonal_update(torch.zeros(3, 4), after), after)


def test_kept_columns_are_w0_and_the_others_w1_without_the_orthogonal_step() -> None:
    case = derivation.random_case()
    before, after = torch.tensor(case.before).bfloat16(), torch.tensor(case.after).bfloat16()
    kept = torch.arange(before.shape[1]) % 3 == 0

    adapted = adjust(before, after, kept, orthogonal=False)

    assert adapted.dtype == torch.bfloat16
    assert torch.equal(adapted[:, kept], before[:, kept])
    assert torch.equal(adapted[:, ~kept], after[:, ~kept])


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.equal(left.view(torch.int32), right.view(torch.int32))
