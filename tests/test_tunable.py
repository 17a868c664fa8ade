"""Search spaces: where a share of the way ends, and that every method's own is one that its Config takes."""

from typing import Annotated

import pytest
from pydantic import Field

from hpa_bench.method import MethodConfig, methods
from hpa_bench.tunable import Tunable, is_whole, search_space

NONE = {"seqft", "joint", "zero_shot", "replay"}
"""References, and a buffer whose size is a cost."""


class Odd(MethodConfig):
    """One of each kind."""

    strength: Annotated[float, Tunable(0.01, 100, log=True)] = Field(1.0, ge=0)
    count: Annotated[int, Tunable(1, 9)] = 3
    kind: Annotated[str, Tunable(choices=("a", "b"))] = "a"
    untouched: float = 2.0


def test_a_config_says_what_is_tuned() -> None:
    assert list(search_space(Odd)) == ["strength", "count", "kind"]
    assert [str(mark) for mark in search_space(Odd).values()] == ["0.01 to 100 (log)", "1 to 9", "one of a, b"]
    assert [is_whole(Odd, name) for name in ("strength", "count", "kind")] == [False, True, False]
    assert Odd().strength == 1.0


def test_a_share_of_the_way() -> None:
    strength, count, kind = search_space(Odd).values()

    assert [strength.at(share, False) for share in (0, 0.5, 1)] == [0.01, 1.0, 100]
    assert strength.at(0.123456, False) == 0.0312  # 10^(-2 + 4 * 0.123456), three digits.
    assert [count.at(share, True) for share in (0, 0.5, 0.51, 1)] == [1, 5, 5, 9]
    assert [kind.at(share, False) for share in (0, 0.499, 0.5, 1)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize("where", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {}])
def test_a_space_that_is_nowhere_is_refused(where: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is nowhere: expected"):
        Tunable(**where)  # type: ignore[arg-type]


@pytest.mark.slow
def test_every_method_says_what_its_strengths_are() -> None:
    spaces = {name: search_space(methods.get(name).Config) for name in methods.names()}

    assert {name for name, space in spaces.items() if not space} == NONE
    assert all(len(space) <= 3 for space in spaces.values())
    for name, space in spaces.items():
        config = methods.get(name).Config
        for key, mark in space.items():
            default = config.model_fields[key].get_default()
            if mark.choices:
                assert default in mark.choices, (name, key)
            else:
                assert mark.low <= default <= mark.high, (name, key)
            free = {other: search_space(config)[other].at(0, is_whole(config, other)) for other in space}
            for share in (0, 1):
                found = free | {key: mark.at(share, is_whole(config, key))}
                if {"p_max", "p_min"} <= found.keys():
                    found["p_max"] = max(found["p_max"], found["p_min"])
                config.model_validate(found)
