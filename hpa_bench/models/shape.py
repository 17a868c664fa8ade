"""A checkpoint without its weights: what its configuration says of its size, and weights drawn in its shape."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

from hpa_bench.models.config import BESIDE_WEIGHTS
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import NO_CODE
from hpa_bench.models.skeleton import load_skeleton


class Shape(NamedTuple):
    """What a model's configuration says of its size."""

    parameters: int
    layers: list[tuple[int, int]]
    """The sizes `(out, in)` of the linear layers of its decoder, which adapters go on."""

    def trained(self, rank: int) -> int:
        """Return the parameters of a LoRA of a rank on every layer."""
        return sum(rank * sum(size) for size in self.layers)


def shape_of(folder: Path, blocks: str | None = None, layers: str | None = None) -> Shape:
    """Return the shape of a checkpoint, whose weights need not be there.

    Args:
        folder: with its configuration.
        blocks: where its blocks are, as of `find_decoder`.
        layers: which linear layers count, as of `find_decoder`.

    Raises:
        UserError: it has no list of decoder blocks.
    """
    model = load_skeleton(folder, "cpu", "float32")
    found = find_decoder(model, blocks, layers)
    weights: list[Any] = [model.get_submodule(name).weight for name in found.linear_layers]
    sizes = [(int(weight.shape[0]), int(weight.shape[1])) for weight in weights]
    return Shape(sum(parameter.numel() for parameter in model.parameters()), sizes)


def draw_weights(folder: Path, target: Path, dtype: torch.dtype) -> Path:
    """Write a checkpoint of the shape of another, its weights drawn at random, and return its folder.

    Args:
        folder: with the other's configuration and processor.
        target: where to; it need not exist.
        dtype: of the weights.
    """
    target.mkdir(parents=True, exist_ok=True)
    for pattern in BESIDE_WEIGHTS:
        for file in folder.glob(pattern):
            shutil.copyfile(file, target / file.name)
    config = AutoConfig.from_pretrained(folder, **NO_CODE)
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    kind.from_config(config, dtype=dtype, **NO_CODE).save_pretrained(target)
    return target
