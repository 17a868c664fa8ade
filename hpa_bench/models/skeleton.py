"""A model without weights, of which a part has some for a while: for models larger than memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

from hpa_bench.errors import UserError
from hpa_bench.models.folder import check_files
from hpa_bench.models.loading import NO_CODE, load_processor, quiet
from hpa_bench.models.weights import Weights, no_parameter


def load_skeleton(folder: Path, device: str, dtype: str | torch.dtype) -> nn.Module:
    """Return the model of a checkpoint in eval mode, its parameters on the meta device, its buffers on `device`.

    Args:
        folder: the checkpoint's; only its configuration is read.
        device: a torch device.
        dtype: of the parameters, once they get storage.

    Raises:
        UserError: transformers knows no such model.
    """
    check_files(folder)
    with _explained(folder):
        config = AutoConfig.from_pretrained(folder, **NO_CODE)
        sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        with init_empty_weights(include_buffers=False):
            model = kind.from_config(config, dtype=dtype, **NO_CODE)
    model.tie_weights()
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    return model.eval()


def processor_of(folder: Path, chat_template: Path | None = None) -> Any:
    """Return the processor of a checkpoint's folder, or the tokenizer of a model that reads text alone.

    Raises:
        UserError: transformers finds none, or the template cannot be read.
    """
    with _explained(folder):
        return load_processor(folder, chat_template)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say in one sentence what a folder lacks; transformers raises whatever it stumbles over."""
    with quiet():
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{str(folder)!r} is no checkpoint of an image-text-to-text model, nor of a causal language model, with"
                f" a processor, that transformers can load ({reason})."
            ) from error


@contextmanager
def given(model: nn.Module, weights: Weights, names: Iterable[str], device: torch.device) -> Iterator[None]:
    """Give parameters of a model their weights.

    Those without storage get some on the device, and have none again afterwards; the others keep what they are given.

    Args:
        model: the model.
        weights: by name; each is asked for once.
        names: what to load.
        device: where storage is made.

    Raises:
        UserError: the model has no parameter of such a name.
    """
    places = _places(model)
    empty: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        with torch.no_grad():
            for name in names:
                if name not in places:
                    raise no_parameter(model, name)
                target, owners = places[name]
                if target.is_meta:
                    filled = nn.Parameter(torch.empty_like(target, device=device), requires_grad=False)
                    for module, attribute in owners:
                        empty.append((module, attribute, target))  # type: ignore[arg-type]
                        module._parameters[attribute] = filled
                    target = filled
                target.copy_(weights[name])
        yield
    finally:
        for module, attribute, parameter in empty:
            module._parameters[attribute] = parameter


def _places(model: nn.Module) -> dict[str, tuple[Tensor, list[tuple[nn.Module, str]]]]:
    """Return every parameter and buffer by its names, with the modules that hold it: more than one where it is tied."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    named: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        for held in (module._parameters, module._buffers):
            for attribute, tensor in held.items():
                if tensor is not None:
                    owners.setdefault(id(tensor), []).append((module, attribute))
                    named[f"{prefix}.{attribute}" if prefix else attribute] = tensor
    return {name: (tensor, owners[id(tensor)]) for name, tensor in named.items()}
