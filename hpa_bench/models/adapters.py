"""LoRA adapters (peft) as methods see them: attached to chosen layers, and their factors while they train."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear, LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from hpa_bench.errors import UserError, unknown
from hpa_bench.models.config import ADAPTER_CONFIG, ADAPTER_PREFIX, ADAPTER_WEIGHTS, LoRAConfig, adapter_scale


class Factors(NamedTuple):
    """The adapter of one linear layer, whose merged update is `scale * b @ a`."""

    name: str
    """The layer's module name in the model; its weight is `<name>.weight`."""
    a: Tensor
    """A `[r, in_features]`, the trained parameter itself."""
    b: Tensor
    """B `[out_features, r]`, the trained parameter itself."""
    scale: float
    """alpha / r."""

    def update(self) -> Tensor:
        """Return the merged update `scale * B A` `[out_features, in_features]`, with its gradient."""
        return self.scale * (self.b @ self.a)


class _SummedLinear(Linear):
    """peft's layer, which computes `(W + scale B A) x` in place of `W x + scale B (A x)` where that takes less.

    With the gradients, each token costs the sum `out * in` multiplications beside those of `W x`, and B and A apart
    `3 r (out + in)`; in layers of a few hundred features the sum is cheaper, in those of thousands never.
    """

    def forward(self, x: Tensor, *args: Any, **keywords: Any) -> Tensor:
        """Return the layer's output with its adapter."""
        if args or keywords or self.disable_adapters or self.merged:
            return super().forward(x, *args, **keywords)
        layer: Any = self.base_layer
        (name,) = self.active_adapters
        a: Any = self.lora_A[name].weight
        b: Any = self.lora_B[name].weight
        if not (
            layer.weight.numel() <= 3 * len(a) * sum(layer.weight.shape)
            and x.dtype == layer.weight.dtype == a.dtype == torch.float32
            and not torch.is_autocast_enabled(x.device.type)
            and isinstance(self.lora_dropout[name], nn.Identity)
            # What watches the adapted layer has to see it called.
            and not layer._forward_hooks
            and not layer._forward_pre_hooks
        ):
            return super().forward(x)
        return F.linear(x, torch.addmm(layer.weight, b, a, alpha=self.scaling[name]), layer.bias)


def attach_lora(model: nn.Module, lora: LoRAConfig, layers: Sequence[str], full: Sequence[str] = ()) -> nn.Module:
    """Return the model with a fresh adapter (A Kaiming uniform, B zero) on the named linear layers, all else frozen.

    Args:
        model: a Hugging Face model.
        lora: the adapter's size.
        layers: module names.
        full: the last parts of the names of modules that are trained in full beside it and beside those of `lora.also`
            (peft's `modules_to_save`).
    """
    full = [*full, *lora.also]
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(layers))
    if full:
        config.modules_to_save = list(full)
        ends = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
        named = [module for name, module in model.named_modules() if name.rpartition(".")[2] in full]
        config.ensure_weight_tying = ends[0].weight is ends[1].weight and any(module in ends for module in named)
    # Only what is exactly a linear layer: a quantised one is of a class of its own.
    if all(type(model.get_submodule(name)) is nn.Linear for name in layers):
        config._register_custom_module({nn.Linear: _SummedLinear})
    wrapped = get_peft_model(model, config)  # type: ignore[arg-type]
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            # peft keeps modules in full in the model's dtype, in which small steps of an optimiser are rounded away.
            parameter.data = parameter.data.float()
    return wrapped


class StoredAdapter(nn.Module):
    """A saved adapter by itself: what `lora_factors` needs of a wrapped model, and no more."""

    def __init__(self, folder: Path) -> None:
        """Read an adapter.

        Args:
            folder: as peft's `save_pretrained` writes it.
        """
        super().__init__()
        self._folder = folder
        self._tensors = {name: tensor.float() for name, tensor in load_file(folder / ADAPTER_WEIGHTS).items()}
        self._scale = adapter_scale(json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")))

    def factors(self) -> list[Factors]:
        """Return the factors of every adapted layer, blocks in their order; to change B changes what is saved."""
        found = []
        for key in sorted(self._tensors, key=_with_numbers):
            if ".lora_A." in key:
                name = key.removeprefix(ADAPTER_PREFIX).partition(".lora_A.")[0]
                b = self._tensors[key.replace(".lora_A.", ".lora_B.")]
                found.append(Factors(name, self._tensors[key], b, self._scale))
        return found

    def save(self, folder: Path) -> None:
        """Write the adapter as it is now to a folder that is there."""
        shutil.copyfile(self._folder / ADAPTER_CONFIG, folder / ADAPTER_CONFIG)
        save_file(self._tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _with_numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in name.split(".")]


def lora_factors(model: nn.Module) -> Iterator[Factors]:
    """Yield the factors of every adapted layer of a model that `attach_lora` returned, in the model's order."""
    if isinstance(model, StoredAdapter):
        yield from model.factors()
        return
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            (adapter,) = module.active_adapters
            yield Factors(
                name.removeprefix(ADAPTER_PREFIX),
                module.lora_A[adapter].weight,  # type: ignore[arg-type]
                module.lora_B[adapter].weight,  # type: ignore[arg-type]
                module.scaling[adapter],
            )


def check_modules(model: nn.Module, names: Iterable[str], where: str) -> None:
    """Refuse names of modules to train in full that the model does not have.

    Args:
        model: a Hugging Face model.
        names: the last parts of the names of modules.
        where: what names them, for the message.

    Raises:
        UserError: the model has no such module with parameters.
    """
    modules = model.named_modules()
    known = {name.rpartition(".")[2] for name, module in modules if next(module.parameters(), None) is not None}
    for name in names:
        if name not in known:
            raise unknown("module", name, known, where)


def trained_in(model: nn.Module, module: str) -> list[Tensor]:
    """Return the parameters that a wrapped model trains in a module, given the last part of its name."""
    return [each for name, each in model.named_parameters() if each.requires_grad and module in name.split(".")]


def check_trained(wrapped: nn.Module, names: Iterable[str], method: str) -> None:
    """Refuse a method that trains without the modules that a suite trains beside the adapter.

    Raises:
        UserError: a module of `training.also` has no parameter that is trained.
    """
    for name in names:
        if not trained_in(wrapped, name):
            raise UserError(
                f"Method {method!r} does not train {name!r}, which training.also asks for: its wrap() makes no adapter"
                " by attach_lora(model, ctx.lora, ...); leave it out by --set training.also={}."
            )


def unload(wrapped: Any, lora: LoRAConfig) -> None:
    """Take an adapter off; modules that were trained beside it are frozen again, in the dtype of the model."""
    model = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else None
    wrapped.unload()
    if model is not None and lora.also:
        dtype = model.get_input_embeddings().weight.dtype  # type: ignore[operator]
        for name, module in model.named_modules():
            if name.rpartition(".")[2] in lora.also:
                module.requires_grad_(False).to(dtype)
