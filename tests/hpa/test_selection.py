import numpy as np
import pytest
import torch

from hpa_bench.hpa import HPAConfig, keep_percent_at
from hpa_bench.hpa.partition import focus
from hpa_bench.hpa.selection import balance, select_columns
from tests.support import derivation


def scores(seed: int, columns: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.lognormal(size=columns)), torch.tensor(rng.lognormal(size=columns))


def test_keep_rate_falls_linearly_with_depth() -> None:
    assert [keep_percent_at(layer, 4, 15, 5) for layer in range(4)] == [15, 12.5, 10, 7.5]


def test_keep_rate_is_constant_where_both_ends_agree() -> None:
    assert {keep_percent_at(layer, 32, 10, 10) for layer in range(32)} == {10}


@pytest.mark.parametrize("seed", range(3))
def test_alpha_is_interpolated_by_the_mean_log_ratio(seed: int) -> None:
    eps, zeta = scores(seed)

    assert balance(eps, zeta).item() == pytest.approx(derivation.alpha(eps.numpy(), zeta.numpy()), rel=1e-12)


def test_alpha_runs_from_a0_where_the_task_dominates_to_a1_where_safety_does() -> None:
    one = torch.ones(5, dtype=torch.float64)

    assert balance(one, 1e30 * one, 0.4, 0.8).item() == pytest.approx(0.4)
    assert balance(one, one, 0.4, 0.8).item() == pytest.approx(0.6)
    assert balance(1e30 * one, one, 0.4, 0.8).item() == pytest.approx(0.8)


def test_alpha_skips_columns_with_a_zero_score() -> None:
    eps, zeta = torch.tensor([2.0, 0.0, 3.0]), torch.tensor([1.0, 1.0, 0.0])

    assert balance(eps, zeta).item() == pytest.approx(balance(eps[:1], zeta[:1]).item())
    assert balance(torch.zeros(3), torch.zeros(3), 0.4, 0.8).item() == pytest.approx(0.6)


@pytest.mark.parametrize("percent", [0, 3, 5, 10, 15, 40, 50, 75, 100])
@pytest.mark.parametrize(
    ("selection", "shared"),
    [("full", "overlap"), ("full", "union"), ("safety_focused", "overlap"), ("balanced", "union")],
)
def test_p_percent_of_the_columns_are_kept(percent: float, selection: str, shared: str) -> None:
    for seed in range(5):
        eps, zeta = scores(seed, columns=70)

        kept = select_columns(eps, zeta, percent, HPAConfig(selection=selection, shared=shared))  # type: ignore[arg-type]

        assert kept.sum() == round(percent / 100 * 70)


@pytest.mark.parametrize("columns", [1, 7, 40, 130])
def test_full_keeps_p_percent_where_s_and_t_share_nothing_or_everything(columns: int) -> None:
    eps = torch.arange(columns, dtype=torch.float64) + 1
    for zeta in (eps.flip(0), eps):
        for percent in (0, 3, 12.5, 25, 33.3, 60, 100):
            kept = select_columns(eps, zeta, percent, HPAConfig())

            assert kept.sum() == round(percent / 100 * columns)


def test_balanced_keeps_the_columns_that_s_and_t_share_and_at_most_p_percent() -> None:
    fewer = 0
    for seed in range(20):
        eps, zeta = scores(seed)
        overlap = focus(eps, 10) & focus(zeta, 10)

        kept = select_columns(eps, zeta, 10, HPAConfig(selection="balanced"))

        assert not (kept & ~overlap).any()
        assert kept.sum() == min(6, int(overlap.sum()))
        fewer += int(overlap.sum()) < 6

    assert fewer > 0


def test_balanced_keeps_nothing_where_s_and_t_share_nothing() -> None:
    eps, zeta = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0])
    config = HPAConfig(selection="balanced", focus_factor=1.0)

    assert not select_columns(eps, zeta, 50, config).any()
    assert select_columns(eps, zeta, 50, config.model_copy(update={"shared": "union"})).tolist() == [True, False]


def test_all_that_full_keeps_is_in_s_unless_the_union_is_shared() -> None:
    for seed in range(20):
        eps, zeta = scores(seed)

        assert not (select_columns(eps, zeta, 20, HPAConfig()) & ~focus(eps, 20)).any()
        union = select_columns(eps, zeta, 20, HPAConfig(shared="union"))
        assert not (union & ~(focus(eps, 20) | focus(zeta, 20))).any()


def test_columns_focused_on_safety_alone_go_first() -> None:
    eps, zeta = torch.tensor([9.0, 8, 7, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1]), torch.zeros(10)
    zeta[[0, 1, 5, 6]] = torch.tensor([0.4, 0.3, 0.2, 0.1])
    # Two columns stay; S = {0, 1, 2, 3} and T = {0, 1, 5, 6}, so S outside T is {2, 3}, whatever phi says of 0 and 1.

    kept = select_columns(eps, zeta, 20, HPAConfig())

    assert kept.nonzero().flatten().tolist() == [2, 3]


def test_only_a_column_of_s_and_t_fills_up_unless_the_union_is_shared() -> None:
    eps = torch.tensor([5.0, 5, 5, 4.5, 4.4, 0.1, 0.1, 0.1, 0.1, 0.1])
    zeta = torch.tensor([9.0, 9, 9, 1, 5, 0.1, 0.1, 0.1, 0.1, 0.1])
    # Two columns stay; S = {0, 1, 2, 3} and T = {0, 1, 2, 4}: column 3 goes first. Column 4 has the largest phi left,
    # but is not in S; of those in both, the first has.

    kept = {
        shared: select_columns(eps, zeta, 20, HPAConfig(shared=shared))  # type: ignore[arg-type]
        for shared in ("overlap", "union")
    }

    assert kept["overlap"].nonzero().flatten().tolist() == [0, 3]
    assert kept["union"].nonzero().flatten().tolist() == [3, 4]


def test_balanced_choice_ignores_which_set_a_column_is_in() -> None:
    eps, zeta = torch.tensor([9.0, 8, 7, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1]), torch.zeros(10)
    zeta[[0, 1, 5, 6]] = torch.tensor([0.4, 0.3, 0.2, 0.1])

    kept = select_columns(eps, zeta, 20, HPAConfig(selection="balanced"))

    assert kept.nonzero().flatten().tolist() == [0, 1]


def test_safety_focused_choice_ignores_the_task() -> None:
    eps, zeta = scores(2)

    kept = select_columns(eps, zeta, 10, HPAConfig(selection="safety_focused"))

    assert set(kept.nonzero().flatten().tolist()) == set(derivation.top(eps.numpy(), 6))


def test_no_selection_keeps_no_column() -> None:
    assert not select_columns(*scores(0), 10, HPAConfig(selection="none")).any()
