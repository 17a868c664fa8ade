"""Judges: they decide, from stored responses, what a model did with a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

REFUSED: Final = "refused"
NOT_REFUSED: Final = "not_refused"
"""Said by judges that cannot tell complying from anything else."""
COMPLIED: Final = "complied"
NEITHER: Final = "neither"
"""Said by judges that can: neither a refusal nor what was asked for."""
EMPTY: Final = "empty"
"""No word at all: neither safe nor unsafe, and counted apart."""


class Judge(ABC):
    """Gives every response a verdict; built with no arguments."""

    name: ClassVar[str]
    """As on the command line; the entry point has the same name."""

    @abstractmethod
    def verdicts(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return one verdict a row, in their order.

        Args:
            rows: stored responses, with `id`, `prompt`, `target`, `response` and, where the set has it, `category`.
        """
