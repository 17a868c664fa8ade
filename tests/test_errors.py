"""The sentence for a name that does not exist."""

import pytest

from hpa_bench.errors import MissingImage, UserError, listed, unknown


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("hap", ["seqft", "hpa"], "Unknown method 'hap'. Did you mean 'hpa'? Available: hpa, seqft."),
        ("xyzzy", ["seqft", "hpa"], "Unknown method 'xyzzy'. Available: hpa, seqft."),
        ("ewd", ["lwf", "ewc", "derpp"], "Unknown method 'ewd'. Did you mean 'ewc'? Available: derpp, ewc, lwf."),
        ("hpa", [], "Unknown method 'hpa'. Available: none."),
    ],
)
def test_the_nearest_of_what_there_is_is_offered(name: str, known: list[str], sentence: str) -> None:
    assert str(unknown("method", name, iter(known))) == sentence


def test_it_says_where_the_name_stands() -> None:
    assert str(unknown("key", "tasc", ["tasks"], "in suite 'tiny'")) == (
        "Unknown key 'tasc' in suite 'tiny'. Did you mean 'tasks'? Available: tasks."
    )


def test_a_missing_image_is_told_like_all_that_a_user_can_put_right() -> None:
    with pytest.raises(UserError, match="no image"):
        raise MissingImage("no image")


def test_names_are_listed_as_in_a_sentence() -> None:
    assert [listed(["a", "b", "c"][:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
