"""What a suite says of a model, read without loading torch: the adapter of a stage, a chat template of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr

from hpa_bench.config import BaseConfig
from hpa_bench.errors import UserError

BESIDE_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.txt")
"""What a checkpoint has beside its safetensors: configuration, processor, tokenizer. Weights in other formats, as some
folders hold them too, are neither fetched nor copied."""
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files of a saved adapter, as peft's `save_pretrained` names them."""
ADAPTER_PREFIX = "base_model.model."
"""What peft puts before the model's own names."""


def adapter_scale(config: Mapping[str, Any]) -> float:
    """Return what a saved adapter's `B A` is multiplied by: alpha / r, or alpha / sqrt(r) if it says `use_rslora`."""
    rank = config["r"]
    return config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)


class LoRAConfig(BaseConfig):
    """The adapter of one stage: LoRA on the linear layers of the language model (peft)."""

    rank: int = Field(16, ge=1, le=2**16)
    """r, the rank of the update."""
    alpha: int = Field(32, ge=1, le=2**20)
    """The update is scaled by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """The share of an adapter's inputs that training sets to 0."""

    _also: tuple[str, ...] = PrivateAttr(())

    @property
    def also(self) -> tuple[str, ...]:
        """Modules that are trained in full beside the adapter, by the last parts of their names (`training.also`)."""
        return self._also

    def beside(self, modules: Iterable[str]) -> Self:
        """Return the same adapter with modules that are trained in full beside it."""
        found = self.model_copy()
        found._also = tuple(modules)
        return found


def local_folder(model: str) -> Path | None:
    """Return a checkpoint's folder; None where a model is named as on the Hugging Face hub.

    Raises:
        UserError: it is neither a folder nor such a name.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith((".", "~")) or len(folder.parts) != 2:
        raise UserError(f"There is no model folder {model!r}: expected a folder with config.json and safetensors.")
    return None


def read_chat_template(path: str | Path) -> str:
    """Return the Jinja text of a chat template's file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The chat template {str(path)!r} cannot be read: {error}.") from None
