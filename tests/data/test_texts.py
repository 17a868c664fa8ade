"""Which texts of rows a run takes."""

import pytest

from hpa_bench.data.texts import LONGEST, check_text, text_of
from hpa_bench.errors import UserError


@pytest.mark.parametrize(("value", "text"), [("a", "a"), ("", ""), (3, "3"), (0.5, "0.5"), (True, "True")])
def test_text_and_numbers_are_texts(value: object, text: str) -> None:
    assert text_of(value, "It") == text


@pytest.mark.parametrize("value", [None, float("nan"), ["a"], {"a": 1}, b"a", ["x" * 10_000] * 10])
def test_anything_else_is_named_in_short(value: object) -> None:
    with pytest.raises(UserError, match=r"^The answer of row 3 is .*: expected a text\.$") as caught:
        text_of(value, "The answer of row 3")
    assert len(str(caught.value)) < 400


def test_a_text_is_as_long_as_the_limit() -> None:
    check_text("é" * LONGEST, "It")
    with pytest.raises(UserError, match=r"^The answer has 131,073 characters: expected 131,072 at most"):
        check_text("é" * (LONGEST + 1), "The answer")


def test_half_of_a_surrogate_pair_is_named_by_its_place() -> None:
    check_text("\U0001f600", "It")
    with pytest.raises(UserError, match=r"^The answer holds half of a surrogate pair at character 2,"):
        check_text("ab\ud83d", "The answer")
