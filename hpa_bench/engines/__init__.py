"""Engines: they turn rendered prompts and images into responses. One small interface, several ways to run a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

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
    """The Hugging Face processor of the model, or the tokenizer of one that reads text alone; it renders prompts."""

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", dtype: str | None = None, batch_size: int = 64) -> Self:
        """Return an engine with a checkpoint of its own, which no method tunes, such as a guard's.

        Args:
            path: a folder, or a name on the Hugging Face hub; an image-text-to-text or a causal language model.
            device: cpu, cuda, or "auto" for a GPU where there is one.
            dtype: a torch dtype's name; by default bfloat16 on a GPU and float32 on a CPU.
            batch_size: requests generated at a time.

        Raises:
            UserError: there is no such checkpoint.
        """
        from hpa_bench.device import choose_device
        from hpa_bench.engines.hf import load_model

        chosen = choose_device(device)
        default = "bfloat16" if chosen == "cuda" else "float32"
        return cls(*load_model(path, chosen, dtype or default), batch_size=batch_size)  # type: ignore[call-arg]

    @abstractmethod
    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order, without surrounding white space."""
