"""Errors that a user can act on: one clear sentence, no traceback."""

import reprlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """Something that the user can put right: the message says what, where, what was expected and what to do."""


class MissingImage(UserError):
    """An image file that a row names is not there."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> UserError:
    """Return the error for a name that does not exist, with the nearest that does.

    Args:
        kind: what was looked up, such as "method".
        name: what was asked for.
        known: every valid name.
        where: an origin to point at, such as "in suite 'tiny'"; may be empty.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    place = f" {where}" if where else ""
    return UserError(f"Unknown {kind} {name!r}{place}. {hint}Available: {', '.join(names) or 'none'}.")


def shown(value: Any) -> str:
    """Return a value for a message, as `repr` does: its beginning and its end, however large or deep it is."""
    short = reprlib.Repr()  # The arguments of its construction are newer than the oldest Python here.
    short.maxlevel, short.maxdict, short.maxlist, short.maxstring, short.maxlong, short.maxother = 2, 3, 3, 80, 40, 80
    return short.repr(value)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
