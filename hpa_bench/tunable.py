"""Which hyper-parameters of a method are its strengths, and where they are searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

DIGITS = 3
"""Significant digits of a searched number: no method tells more apart, and a reader can type it."""


@dataclass(frozen=True)
class Tunable:
    """Marks a hyper-parameter, in its annotation, as one that `hpa-bench tune` searches, and says where.

    Either from `low` to `high`, on a logarithmic scale with `log`, or among `choices`:
    `strength: Annotated[float, Tunable(0.01, 10, log=True)] = 0.1`.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.choices and not (0 if self.log else float("-inf")) < self.low < self.high < float("inf"):
            above = "0 < low < high" if self.log else "low < high"
            raise ValueError(f"{self} is nowhere: expected {above}, or choices")

    def at(self, share: float, whole: bool) -> Any:
        """Return the value at a share of the way through, from 0 to 1.

        Args:
            share: of the way.
            whole: round it to an integer.
        """
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        found = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        found = min(max(float(f"{found:.{DIGITS}g}"), self.low), self.high)
        return round(found) if whole else found

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


def search_space(config: type[BaseModel]) -> dict[str, Tunable]:
    """Return the tunable hyper-parameters of a configuration, by name; none where a method has no strength."""
    return {
        name: mark
        for name, field in config.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Tunable)
    }


def is_whole(config: type[BaseModel], name: str) -> bool:
    """Whether a hyper-parameter takes integers alone."""
    annotation = config.model_fields[name].annotation
    kinds = {annotation, *get_args(annotation)}
    return int in kinds and float not in kinds
