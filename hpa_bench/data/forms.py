"""The form that a task asks answers to have, whatever their content: a letter, a word or two, a sentence, a pattern.

A task's YAML declares it under `metadata`, as `form: letter` or `form: {pattern: "bar \\\\w+"}`. The share of responses
in form is instruction following (MIF), as the authors of SMoLoRA count it beside accuracy: it tells a model that has
lost a skill from one that answers in another task's style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpa_bench.errors import UserError, shown, unknown

Form = Callable[[str, Sequence[str]], bool]
"""Whether a response, white space around it removed, is in form; the second argument are the reference answers."""


def letter(p: str, references: Sequence[str]) -> bool:
    """Return whether a response is one letter (SMoLoRA, ScienceQA)."""
    return re.fullmatch("[A-Z]", p.upper()) is not None


def words(p: str, references: Sequence[str]) -> bool:
    """Return whether a response has two words at most, or is an answer but for case (SMoLoRA, VQA, classification)."""
    return len(p.split()) <= 2 or p.lower() in {each.lower() for each in references}


def caption(p: str, references: Sequence[str]) -> bool:
    """Return whether a response ends with a stop and has over four words or is in a reference (SMoLoRA, captions)."""
    return p.endswith(".") and (len(p.split()) > 4 or any(p.lower() in each.lower() for each in references))


FORMS: dict[str, Form] = {"letter": letter, "words": words, "caption": caption}


def form_of(metadata: Mapping[str, Any] | None) -> Form | None:
    """Return the form that a task's metadata declares, or None where it declares none.

    Raises:
        UserError: it is none of `FORMS` and no pattern.
    """
    declared = (metadata or {}).get("form")
    if declared is None:
        return None
    if isinstance(declared, str):
        if declared not in FORMS:
            raise unknown("form", declared, FORMS, "(metadata.form of a task, or {pattern: ...})")
        return FORMS[declared]
    pattern = declared.get("pattern") if isinstance(declared, Mapping) and len(declared) == 1 else None
    if not isinstance(pattern, str):
        raise UserError(f"metadata.form is {shown(declared)}: expected one of {', '.join(FORMS)}, or {{pattern: ...}}.")
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise UserError(f"metadata.form.pattern {pattern!r} is not a regular expression: {error}.") from None
    return lambda p, references: compiled.fullmatch(p) is not None
