"""Where the command line prints: names and sentences as they are, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hpa_bench.redact import clean

LOG_WIDTH = 120
"""Columns where the output is no terminal, such as a log: a table must not be squeezed into the usual 80."""


class CleanConsole(Console):
    """A console that shows control characters instead of sending them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the pieces of what is printed, each clean."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else clean(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


def make_console() -> Console:
    """Return a console as wide as the terminal, or as a log may be.

    It reads no markup and no emoji codes in what it prints, since `[` and `:` stand in names, and what it prints is
    clean (see `hpa_bench.redact`): a response or a name cannot steer the terminal.
    """
    options: dict[str, Any] = {"soft_wrap": True, "markup": False, "emoji": False}
    console = CleanConsole(**options)
    return console if console.is_terminal else CleanConsole(width=LOG_WIDTH, **options)
