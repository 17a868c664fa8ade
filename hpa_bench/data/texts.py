"""Texts of rows as a run can keep them: of a sane length, and such that UTF-8 can write them."""

from __future__ import annotations

from typing import Any

from hpa_bench.errors import UserError, shown

LONGEST = 2**17
"""Characters of a question, an answer or a request: some 30,000 tokens. Far longer ones take minutes to tokenize."""
LONGEST_NAME = 1024
"""Characters of an id, a category or a cluster."""


def text_of(value: Any, what: str) -> str:
    """Return a value of a row that is text, or a number that stands for one.

    Args:
        value: as the row has it.
        what: names it, for errors, such as "The 'answer' of row 3 of train.json".

    Raises:
        UserError: it is neither, or not a number.
    """
    if not isinstance(value, str | int | float) or value != value:
        found = "null" if value is None else f"{shown(value)}, of type {type(value).__name__}"
        raise UserError(f"{what} is {found}: expected a text.")
    return str(value)


def check_text(text: str, what: str, longest: int = LONGEST) -> None:
    """Check that a run can keep a text.

    Raises:
        UserError: it is longer than `longest` characters, or holds half of a surrogate pair.
    """
    if len(text) > longest:
        raise UserError(
            f"{what} has {len(text):,} characters: expected {longest:,} at most, so shorten it or leave the row out."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what} holds half of a surrogate pair at character {error.start}, which no file can hold: correct it, or"
            " leave the row out."
        ) from None
