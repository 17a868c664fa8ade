import numpy as np
import pytest
import torch

from hpa_bench.errors import UserError
from hpa_bench.hpa.inverse import inverse_diagonal
from hpa_bench.hpa.partition import column_count, column_scores, focus, inverse_diagonals, mean_square, top_columns
from tests.support import derivation


@pytest.mark.parametrize("damping", [0.01, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_diagonal_is_that_of_a_float64_inverse(damping: float, dtype: torch.dtype) -> None:
    # 25 tokens for 40 columns: without damping, H has no inverse.
    h = derivation.second_moments(derivation.random_case().x_safety)

    ours = inverse_diagonal(torch.tensor(h, dtype=dtype), damping)

    rtol = 1e-5 if dtype == torch.float32 else 1e-10
    np.testing.assert_allclose(ours, derivation.inverse_diagonal(h, damping), rtol)


def test_inverse_diagonal_of_a_diagonal_matrix_in_closed_form() -> None:
    ours = inverse_diagonal(torch.diag(torch.tensor([1.0, 2.0, 3.0])), damping=0.5)

    np.testing.assert_allclose(ours, [1 / 2, 1 / 3, 1 / 4])


def test_dead_column_gets_one_before_the_damping_is_measured() -> None:
    ours = inverse_diagonal(torch.diag(torch.tensor([3.0, 0.0])), damping=0.5)

    np.testing.assert_allclose(ours, [1 / (3 + 1), 1 / (1 + 1)])


def test_inverse_diagonal_leaves_h_alone() -> None:
    h = torch.eye(3, dtype=torch.float64)

    inverse_diagonal(h, damping=1.0)

    assert torch.equal(h, torch.eye(3, dtype=torch.float64))


def test_layers_with_one_input_share_one_inverse() -> None:
    shared, own = torch.eye(3), 2 * torch.eye(3)

    inverses = inverse_diagonals({"q": shared, "k": shared, "o": own})

    assert inverses["q"] is inverses["k"]
    assert torch.equal(inverses["o"], inverse_diagonal(own))


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "not positive definite"),
        (torch.tensor([[1.0, 0.0], [0.0, torch.nan]]), "NaN or Inf"),
        (torch.tensor([[1.0, torch.inf], [torch.inf, 1.0]]), "NaN or Inf"),
        (torch.ones(2, 3), r"shape \[2, 3\]"),
    ],
)
def test_h_without_an_inverse_names_the_layer(h: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=f"layers.0.q_proj.*{message}"):
        inverse_diagonals({"layers.0.q_proj": h}, damping=0.0)


@pytest.mark.parametrize("saliency", ["divide", "multiply"])
def test_column_scores_are_the_mean_over_rows_of_the_weights_scores(saliency: str) -> None:
    case = derivation.random_case()
    h = derivation.second_moments(case.x_task)
    before, after = torch.tensor(case.before), torch.tensor(case.after)

    ours = column_scores(mean_square(before, after), inverse_diagonal(torch.tensor(h)), saliency)  # type: ignore[arg-type]

    expected = derivation.column_scores(case.before, case.after, h, saliency=saliency)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_a_factor_on_h_is_a_factor_on_eps_bar_and_leaves_s_alone() -> None:
    case = derivation.random_case()
    before, after = torch.tensor(case.before), torch.tensor(case.after)
    h = torch.tensor(derivation.second_moments(case.x_safety))

    changes = mean_square(before, after)
    eps, scaled = (column_scores(changes, inverse_diagonal(factor * h)) for factor in (1.0, 7.0))

    np.testing.assert_allclose(scaled, 7 * eps, rtol=1e-10)
    assert torch.equal(focus(eps, 10), focus(scaled, 10))


@pytest.mark.parametrize("percent", [0, 1, 5, 12.5, 33.3, 50, 60, 100])
@pytest.mark.parametrize("columns", [1, 7, 20, 130])
def test_s_and_t_hold_twice_p_percent_of_the_columns(percent: float, columns: int) -> None:
    scores = torch.rand(columns, generator=torch.Generator().manual_seed(0))

    mask = focus(scores, percent)

    assert mask.sum() == min(columns, round(2 * percent / 100 * columns))
    assert not mask.any() or mask.all() or scores[mask].min() >= scores[~mask].max()


def test_column_count_rounds_as_python_does() -> None:
    assert [column_count(50, columns) for columns in (1, 3, 5)] == [0, 2, 2]


def test_top_columns_rank_equal_scores_by_index_and_stay_inside_the_mask() -> None:
    assert top_columns(torch.ones(4), 2).tolist() == [True, True, False, False]
    assert top_columns(torch.ones(4), 3, among=torch.tensor([False, True, False, True])).tolist() == [
        False,
        True,
        False,
        True,
    ]


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="NaN or Inf"):
        mean_square(torch.zeros(2, 3), torch.full((2, 3), torch.nan))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"W0 is \[2, 3\] and W1 is \[2, 4\]"):
        mean_square(torch.zeros(2, 3), torch.ones(2, 4))
    with pytest.raises(UserError, match="W0 and W1 have 3 columns, and H has 4"):
        column_scores(torch.ones(3), torch.ones(4))
