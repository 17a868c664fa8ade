"""Inverses by matrix products, against numpy's in float64, at sizes that are halved once, twice and unevenly."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hpa_bench.errors import UserError
from hpa_bench.hpa.inverse import LAPACK, LARGE, damped, damped_cholesky, inverse_diagonal, lower_inverse


def moments(columns: int) -> Tensor:
    """H of fewer tokens than columns, as of eight samples: singular, but for the damping."""
    x = torch.randn(columns // 2 + 1, columns, generator=torch.Generator().manual_seed(columns))
    return 2 * x.T @ x / len(x)


@pytest.mark.parametrize("columns", [1, 5, LAPACK, LAPACK + 1, 700, LARGE + 77])
def test_the_inverse_of_the_factor_is_lower_and_numpys(columns: int) -> None:
    h = moments(columns)

    found = lower_inverse(h)

    assert torch.equal(found, found.tril())
    np.testing.assert_allclose(found, np.linalg.inv(damped_cholesky(h)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("columns", [40, LARGE + 77])
def test_the_diagonal_is_that_of_a_float64_inverse(columns: int) -> None:
    h = moments(columns)

    np.testing.assert_allclose(inverse_diagonal(h), np.diag(np.linalg.inv(damped(h))), rtol=1e-9)


@pytest.mark.parametrize("columns", [3, LAPACK, 700, LARGE + 77])
@pytest.mark.parametrize("place", [0, -1])
def test_what_is_not_positive_definite_is_refused(columns: int, place: int) -> None:
    h = torch.eye(columns)
    h[place, place] = -1.0

    with pytest.raises(UserError, match="not positive definite at damping 0.0: raise `damping`"):
        lower_inverse(h, damping=0.0)


def test_h_itself_stays_as_it_is() -> None:
    h = moments(LARGE).double()
    before = h.clone()

    inverse_diagonal(h)

    assert torch.equal(h, before)
