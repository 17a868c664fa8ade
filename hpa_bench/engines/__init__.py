"""Engines: they turn rendered prompts and images into responses. One small interface, several ways to run a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[int, int], None]
"""Called with the number of finished requests and the number of all."""


# Compared by identity: requests are asked again stage after stage, and their images have no cheap equality.
@dataclass(frozen=True, eq=False)
class Request:
    """One text to be continued greedily."""

    prompt: str
    """What the model reads, rendered by `hpa_bench.prompts`."""
    images: Sequence[Image] = ()
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    """The response ends before the first of these; an end-of-turn token always ends it."""


class Engine(ABC):
    """What generates, built by `Engine(model, processor, batch_size=...)`. Its weights may change between calls."""

    processor: Any
    """The Hugging Face processor of the model, by which prompts are rendered."""

    @abstractmethod
    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order, without surrounding white space."""
