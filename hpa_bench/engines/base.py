"""What an engine is, and what it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hpa_bench.config import BaseConfig
from hpa_bench.registry import Registry

if TYPE_CHECKING:
    from PIL.Image import Image

    from hpa_bench.models.weights import Checkpoint, Weights

Progress = Callable[[int, int], None]
"""Called with the number of finished requests and the number of all."""


# Compared by identity: requests are asked again stage after stage, and their images have no cheap equality.
@dataclass(frozen=True, eq=False)
class Request:
    """One text to be continued greedily."""

    prompt: str
    """What the model reads, rendered by `hpa_bench.models.prompts`."""
    images: Sequence[Image] = ()
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    """The response ends before the first of these; an end-of-turn token always ends it."""


class EngineConfig(BaseConfig):
    """Options of an engine: frozen, unknown keys refused."""


class Engine(ABC):
    """What generates, built by `Engine(model, processor, batch_size=...)`; a run gives it each stage's weights."""

    name: ClassVar[str]
    """As on the command line; the entry point has the same name."""
    Config: ClassVar[type[EngineConfig]] = EngineConfig
    """Its options, which a suite sets under `evaluation.engines.<name>`."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that decide what it says, beside those of every run; a manifest has their versions."""
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
        from hpa_bench.machine.device import choose_device
        from hpa_bench.models.loading import load_model

        device = choose_device(device) if device == "auto" else device
        default = "bfloat16" if device.startswith("cuda") else "float32"
        return cls(*load_model(path, device, dtype or default), batch_size=batch_size)  # type: ignore[call-arg]

    @classmethod  # noqa: B027
    def check(cls) -> None:
        """Refuse, with a UserError that says what to install, where something is missing."""

    @classmethod
    def for_run(cls, model: Any, processor: Any, *, batch_size: int, config: EngineConfig, folder: Path) -> Self:
        """Return the engine that generates for a whole run.

        Args:
            model: the model that the run trains.
            processor: its processor.
            batch_size: requests at a time, the suite's.
            config: the engine's own options.
            folder: where the engine may write; it need not exist.
        """
        return cls(model, processor, batch_size=batch_size)  # type: ignore[call-arg]

    @abstractmethod
    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order, without surrounding white space."""

    def load(self, checkpoint: Checkpoint, changes: Weights | None = None) -> None:
        """Take new weights, in place.

        Args:
            checkpoint: the weights.
            changes: tensors in place of some of the checkpoint's, by name.
        """
        from hpa_bench.models.weights import load_into, overlaid

        load_into(self.model, overlaid(changes, checkpoint) if changes else checkpoint)

    def release(self) -> None:  # noqa: B027
        """Leave the GPU to the model; `load` comes before the next `generate`."""

    def close(self) -> None:  # noqa: B027
        """End everything that the engine has started."""


engines: Registry[Engine] = Registry("engine", "hpa_bench.engines", Engine)  # type: ignore[type-abstract]
