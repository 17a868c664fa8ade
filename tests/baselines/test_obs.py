import pytest
import torch

from hpa_bench.baselines.shared.obs import inverse_factor, replace_entries
from hpa_bench.errors import UserError
from hpa_bench.hpa import LARGE, damped_cholesky
from tests.support.moments import damped_rows, moments


def test_the_factor_is_upper_and_squares_to_the_damped_inverse() -> None:
    h = moments()
    u = inverse_factor(h.float(), damping=0.01)

    damped = h.float().double() + 0.01 * h.float().double().diagonal().mean() * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(u.T @ u, damped.inverse(), rtol=1e-9, atol=1e-12)
    assert torch.equal(u, u.triu())


def test_its_diagonal_is_the_inverse_given_the_columns_to_the_left() -> None:
    h = moments()
    u = inverse_factor(h, damping=0.0)

    for column in (0, 3, 11):
        rest = h[column:, column:].inverse()
        assert float(u[column, column] ** 2) == pytest.approx(float(rest[0, 0]), rel=1e-9)


def test_a_dead_column_and_an_indefinite_matrix() -> None:
    h = moments(4)
    h[2], h[:, 2] = 0.0, 0.0
    assert inverse_factor(h).isfinite().all()

    with pytest.raises(UserError, match="not positive definite"):
        inverse_factor(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), damping=0.0)


def test_two_columns_have_the_closed_form() -> None:
    """Fixing w1 at q moves w2 by (w1 - q) H12 / H22, where the quadratic form in H is smallest."""
    h = moments(2)
    w, q = torch.tensor([[1.5, -0.5]]), torch.tensor([[0.2, 9.0]])

    def first(columns: slice, current: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[True, False]])

    found = replace_entries(w, q, inverse_factor(h, 0.0), first, block=2)

    moved = float((w[0, 0] - q[0, 0]) * h[0, 1] / h[1, 1])
    torch.testing.assert_close(found, torch.tensor([[0.2, -0.5 + moved]], dtype=torch.float64), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("block", "step"), [(1, 1), (4, 1), (5, 1), (12, 1), (12, 4), (8, 4), (5, 3)])
def test_each_step_is_compensated_by_all_columns_to_its_right(block: int, step: int) -> None:
    draw = torch.Generator().manual_seed(1)
    w, q = (torch.randn(3, 12, generator=draw, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(3, 12, generator=draw) < 0.4
    h = moments()
    rows, expected = damped_rows(h), w.clone()
    for start in range(0, 12, block):
        end = min(start + block, 12)
        for first in range(start, end, step):
            later = min(first + step, end)
            for k in range(first, later):
                error = torch.where(mask[:, k], expected[:, k] - q[:, k], 0.0) / rows[k][0]
                expected[:, later:] -= error[:, None] * rows[k][later - k :]
                expected[:, k] = torch.where(mask[:, k], q[:, k], expected[:, k])

    found = replace_entries(w, q, inverse_factor(h), lambda columns, *_: mask[:, columns], block, step)

    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(found[mask], q[mask])


def test_compensation_brings_the_outputs_closer_and_the_other_sign_moves_them_away() -> None:
    h = moments(32)
    draw = torch.Generator().manual_seed(2)
    w, q = (torch.randn(16, 32, generator=draw, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(16, 32, generator=draw) < 0.9

    def error(sign: int) -> float:
        d = replace_entries(w, q, inverse_factor(h), lambda columns, *_: mask[:, columns], 8, sign=sign) - w
        return float((d @ h * d).sum())

    assert error(1) < error(0) < error(-1)


def test_nothing_chosen_changes_nothing() -> None:
    w = torch.randn(3, 12)
    found = replace_entries(w, -w, inverse_factor(moments()), lambda c, current, d: torch.zeros_like(current) > 0, 4)

    assert torch.equal(found.float(), w)


def test_a_large_factor_is_the_same_by_matrix_products() -> None:
    h = moments(LARGE + 5)

    u = inverse_factor(h)

    assert torch.equal(u, u.triu())
    torch.testing.assert_close(u, torch.linalg.cholesky(torch.cholesky_inverse(damped_cholesky(h)), upper=True))
