"""Text that leaves (terminal, logs, reports, reasons kept in a run): no key in it, nothing that acts on a screen."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

HIDDEN = "[redacted]"
SHORTEST = 8
"""Characters of a key that is hidden; a local endpoint's "EMPTY" or "x" is no secret, and may stand in any text."""

_secrets: set[str] = set()
_PATTERNS = (
    # Keys by the beginnings that their issuers give them, masked ones too; JSON web tokens.
    re.compile(
        r"(?<![A-Za-z0-9])(?:sk-|gsk_|hf_|gh[oprsu]_|github_pat_|xox[abprs]-|nvapi-|xai-|pplx-|AIza|AKIA)[\w*-]{12,}"
        r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
    ),
    re.compile(r"(?<=://)[^/\s@\"'<>]+(?=@)"),  # user:password@
    re.compile(r"(?i)(?<=[?&])((?:api[-_]?|access[-_]?)?(?:key|token)|sig|signature|secret|password)=[^&\s\"'#]+"),
    re.compile(r"(?i)\b((?:x-)?api[-_]?key|access[-_]token)(\"?'?\s*[=:]\s*\"?'?)(?!\[redacted)[^\s\"',;&#}]{8,}"),
    re.compile(r"(?i)\b(bearer\s+)[\w.~+/*-]{8,}=*"),
)
_SHOWN = (HIDDEN, HIDDEN, rf"\1={HIDDEN}", rf"\1\2{HIDDEN}", rf"\1{HIDDEN}")
_ACTING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]\S")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?")


def hide(secret: str) -> None:
    """Hide a secret from now on, wherever this process redacts."""
    if len(secret) >= SHORTEST:
        _secrets.update((secret, quote(secret, safe="")))


def redacted(text: str) -> str:
    """Return a text without the secrets that are known (see `hide`), and without what looks like one.

    That is a key with a known beginning, the user and password of an address, and what is named as a key or token.
    """
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, shown in zip(_PATTERNS, _SHOWN, strict=True):
        text = pattern.sub(shown, text)
    return text


def visible(text: str) -> str:
    """Return a text with a symbol for each character that would act instead of being shown.

    These are control characters (an escape becomes ␛, so that a terminal obeys no sequence), overrides of the writing
    direction and halves of surrogate pairs; tabs and line ends stay.
    """
    return _ACTING.sub(lambda match: _symbol(ord(match[0])), text)


def clean(text: str) -> str:
    """Return a text that may leave: redacted and visible."""
    return visible(redacted(text))


def csv_cell(value: Any) -> Any:
    """Return a value as a CSV cell: a text clean and, where a spreadsheet would run it as a formula, behind a '."""
    if type(value) is not str:
        return value
    text = clean(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _symbol(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
