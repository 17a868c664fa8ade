"""Where the command line prints: names and sentences as they are, whatever is in them."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from hpa_bench.redact import clean

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 120
"""Columns where the output is no terminal, such as a log: a table must not be squeezed into the usual 80."""


def make_console() -> Console:
    """Return a console as wide as the terminal, or as a log may be.

    It reads no markup and no emoji codes in what it prints, since `[` and `:` stand in names, and what it prints is
    clean (see `hpa_bench.redact`): a response or a name cannot steer the terminal.
    """
    options: dict[str, Any] = {"soft_wrap": True, "markup": False, "emoji": False}
    console = _class()(**options)
    return console if console.is_terminal else _class()(width=LOG_WIDTH, **options)


def say_error(sentence: str) -> None:
    """Print why a command ends, clean."""
    print(f"Error: {clean(sentence)}", file=sys.stderr, flush=True)


@cache
def _class() -> type[Console]:
    """Return the class of consoles, made here to spare commands that print plain lines the import of rich."""
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class CleanConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                text = segment.text if segment.control else clean(segment.text)
                yield segment if text == segment.text else Segment(text, segment.style)

    return CleanConsole
