"""Engines: they turn rendered prompts and images into responses. One small interface, several ways to run a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from PIL.Image import Image

    from hpa_bench.suite import EvaluationConfig
    from hpa_bench.weights import Checkpoint, Weights

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
    """What generates, built by `Engine(model, processor, batch_size=...)`; a run gives it each stage's weights."""

    model: Any
    """The Hugging Face model."""
    processor: Any
    """The Hugging Face processor of the model, or the tokenizer of one that reads text alone; it renders prompts."""

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", dtype: str | None = None, batch_size: int = 64) -> Self:
        """Return an engine with a checkpoint of its own, which no method tunes, such as a guard's.

        Args:
            path: a folder, or a name on the Hugging Face hub; an image-text-to-text or a causal language model.
            device: a torch device, or "auto" for a GPU where there is one.
            dtype: a torch dtype's name; by default bfloat16 on a GPU and float32 on a CPU.
            batch_size: requests generated at a time.

        Raises:
            UserError: there is no such checkpoint.
        """
        from hpa_bench.device import choose_device
        from hpa_bench.engines.hf import load_model

        device = choose_device(device) if device == "auto" else device
        default = "bfloat16" if device.startswith("cuda") else "float32"
        return cls(*load_model(path, device, dtype or default), batch_size=batch_size)  # type: ignore[call-arg]

    @classmethod  # noqa: B027
    def check(cls) -> None:
        """Refuse, with a UserError that says what to install, where something is missing."""

    @classmethod
    def for_run(cls, model: Any, processor: Any, evaluation: EvaluationConfig, folder: Path) -> Self:
        """Return the engine that generates for a whole run.

        Args:
            model: the model that the run trains.
            processor: its processor.
            evaluation: the suite's settings.
            folder: where the engine may write; it need not exist.
        """
        return cls(model, processor, batch_size=evaluation.batch_size)  # type: ignore[call-arg]

    @abstractmethod
    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order, without surrounding white space."""

    def load(self, checkpoint: Checkpoint, changes: Weights | None = None) -> None:
        """Take new weights, in place.

        Args:
            checkpoint: the weights.
            changes: tensors in place of some of the checkpoint's, by name.
        """
        from hpa_bench.weights import load_into, overlaid

        load_into(self.model, overlaid(changes, checkpoint) if changes else checkpoint)

    def release(self) -> None:  # noqa: B027
        """Leave the GPU to the model; `load` comes before the next `generate`."""

    def close(self) -> None:  # noqa: B027
        """End everything that the engine has started."""


LARGE = 100_000_000
"""Parameters from which vLLM is clearly faster and its start is soon repaid (docs/engines.md)."""


def choose(asked: str, *, mergeable: bool, device: str, parameters: int, processes: int = 1) -> tuple[str, str]:
    """Return the name of the engine for a run, and the reason.

    Args:
        asked: the suite's `evaluation.engine`.
        mergeable: whether the method's weights are all in the model; vLLM loads no method's own adapter.
        device: the run's torch device.
        parameters: of the model.
        processes: of the run; only Hugging Face's requests are shared out among several.
    """
    from importlib.util import find_spec

    if not mergeable and asked in ("auto", "vllm"):
        return "hf", "the method carries an adapter of its own, which vLLM cannot load"
    if asked != "auto":
        return asked, "as asked"
    if not device.startswith("cuda"):
        return "hf", f"on {device}"
    if processes > 1:
        return "hf", f"{processes} processes share the requests out"
    if parameters < LARGE:
        return "hf", f"{parameters / 1e6:.1f} M parameters; vllm pays from {LARGE / 1e6:.0f} M"
    if find_spec("vllm") is None:
        return "hf", "vllm is not installed"
    return "vllm", f"{parameters / 1e9:.1f} B parameters on a GPU"
