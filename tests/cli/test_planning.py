"""Which runs a comparison is of."""

from itertools import product
from pathlib import Path

import pytest

from hpa_bench.cli.planning import planned, seeds_of
from hpa_bench.errors import UserError
from hpa_bench.spec import RunOptions, make_spec


@pytest.mark.parametrize(("text", "seeds"), [("0-2", [0, 1, 2]), ("4", [4]), ("0,2-3,0", [0, 2, 3])])
def test_seeds(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["a", "0-", "1..3", "2-0", "0,2-1", "", "-1", "0,,1", "9" * 5000])
def test_bad_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"not a list of seeds: expected 0-2 \(the lower one first\) or 0,3,5\.$"):
        seeds_of(text)


def test_a_slip_of_the_pen_is_not_a_million_runs() -> None:
    with pytest.raises(UserError, match="'0-100000000000000' are more than 1000 seeds: expected fewer"):
        seeds_of("0-100000000000000")


def test_a_planned_run_is_the_one_that_is_made_alone(tmp_path: Path) -> None:
    methods, seeds, orders = ["seqft", "hpa:p_max=20"], [3, 1], [None, "6,5,4,3,2,1"]
    found = planned(RunOptions(), methods, seeds, orders, [0.0, 0.1], tmp_path)
    alone = [
        make_spec(RunOptions(method=method, seed=seed, order=order, harmful_ratio=ratio))
        for ratio, order, seed, method in product((0.0, 0.1), orders, seeds, methods)
    ]
    assert list(found) == [spec.default_folder(tmp_path) for spec in alone]
    assert [spec.to_json() for spec in found.values()] == [spec.to_json() for spec in alone]
