"""Where the command line prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 120
"""Columns where the output is no terminal, such as a log: a table must not be squeezed into the usual 80."""


def make_console() -> Console:
    """Return a console as wide as the terminal, or as a log may be."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    return console if console.is_terminal else Console(soft_wrap=True, width=LOG_WIDTH)
