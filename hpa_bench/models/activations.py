"""Calibration samples on their way through the decoder, and the second moments of every layer's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hpa_bench.errors import UserError
from hpa_bench.models.decoder import Decoder, find_decoder
from hpa_bench.models.prompts import Batch, model_inputs
from hpa_bench.models.skeleton import given
from hpa_bench.models.weights import Weights, load_into

Call = tuple[tuple[Any, ...], dict[str, Any]]
Edit = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Given H of a block's layers by module name, returns the weights that change, by parameter name."""

LARGE, STRIPS = 1024, 4
"""Columns from which on H, which is symmetric, is computed in so many strips of rows, each up to its own columns."""


@dataclass
class _InFlight:
    """One batch between two decoder blocks."""

    hidden: Tensor
    """`[batch, positions, hidden]`: what enters the next block."""
    calls: Sequence[Call]
    """What each block is called with beside its hidden states: masks and position embeddings, which may differ."""
    tokens: Tensor
    """bool `[batch * positions]`: which positions hold a token and not padding."""


class ActivationStream:
    """Calibration samples run through the decoder one block at a time.

    Only the block at work needs its weights, and only its activations and moments exist. Several streams may share one
    model object: each loads what it runs, before it runs it. A model without storage (`hpa_bench.models.skeleton`) gets
    some for what runs, and for no longer.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Weights,
        batches: Sequence[Batch],
        device: str | torch.device | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """Bring every batch to the door of the first decoder block.

        Args:
            model: the model whose structure is run, left in eval mode. Its weights are overwritten.
            weights: the weights to run, by the model's parameter names.
            batches: model inputs as the processor makes them, padded on either side; `labels` are ignored.
            device: where blocks run; by default where the model is, which for one without storage must be said. A model
                kept elsewhere sends one block at a time.
            decoder: the model's decoder, a method's `ctx.decoder`; by default it is found, whatever the suite says.

        Raises:
            UserError: there is no token, or the model does more between its blocks than hand on the hidden states.
        """
        self.model = model.eval()
        self.weights = weights
        self.device = torch.device(device) if device is not None else _device(model)
        decoder = decoder or find_decoder(model)
        self.layers = decoder.layers
        self._prefix = decoder.prefix
        self._blocks: Any = model.get_submodule(decoder.prefix)
        self._next = 0
        self._home = _device(model)
        with given(model, weights, self._outside(), self.device):
            self._batches = [self._enter(batch) for batch in batches]
        self.tokens = sum(int(batch.tokens.sum()) for batch in self._batches)
        """n, the number of calibration tokens, image tokens included, padding excluded."""
        if self.tokens == 0:
            raise UserError("The calibration set is empty: at least one sample is needed to measure activations.")

    @torch.no_grad()
    def second_moments(self, block: int, edit: Edit | None = None) -> dict[str, Tensor]:
        """Run the samples through a block and return H = 2 X^T X / n of each of its linear layers.

        Blocks are asked for in order, each once; the samples run through those that are passed over unmeasured.

        Args:
            block: index of the decoder block.
            edit: given H, returns weights of the block that change; it runs again with them, so that the blocks above
                see the edit.

        Returns:
            `[c, c]` float32 for each layer, by module name; layers that read the same input (q/k/v, gate/up) share one
            tensor object.

        Raises:
            UserError: names the layer whose inputs hold NaN or Inf, or which sees no token.
        """
        if block < self._next:
            raise ValueError(f"Block {self._next} comes next, not block {block}: the stream goes through each once.")
        while self._next < block:
            with self._next_block() as (passed, module):
                self._run(passed, module)
        with self._next_block() as (_, module):
            found = self._measure(block, module, hand_on=edit is None)
            if edit is not None:
                load_into(self.model, edit(found))
                self._run(block, module)
        return found

    @contextmanager
    def _next_block(self) -> Iterator[tuple[int, nn.Module]]:
        """Give the next block its weights, on the device, for a while."""
        index, self._next = self._next, self._next + 1
        names = [name for name in self.weights if name.startswith(f"{self._prefix}.{index}.")]
        module: nn.Module = self._blocks[index]
        home = _device(module)
        with given(self.model, self.weights, names, self.device):
            if home.type != "meta":
                module.to(self.device)
            yield index, module
            if home.type != "meta":
                module.to(home)

    def _run(self, block: int, module: nn.Module) -> None:
        """Let what leaves a block enter the next."""
        for batch in self._batches:
            args, kwargs = batch.calls[block]
            batch.hidden = _hidden(module(batch.hidden, *args, **kwargs))

    def _measure(self, block: int, module: nn.Module, hand_on: bool) -> dict[str, Tensor]:
        """Return H of each linear layer of a block; with `hand_on`, what leaves it enters the next."""
        layers = {name: self.model.get_submodule(name) for name in self.layers[block]}
        sums: dict[str, Tensor] = {}
        source: dict[str, str] = {}
        for batch in self._batches:
            args, kwargs = batch.calls[block]
            with _accumulate(layers, batch.tokens, sums, source):
                output = module(batch.hidden, *args, **kwargs)
            if hand_on:
                batch.hidden = _hidden(output)
        for name in layers:
            if name not in source:
                raise UserError(f"Layer {name!r} sees no calibration token: its block never calls it.")
            if not sums[source[name]].diagonal().isfinite().all():
                raise UserError(f"The calibration activations that enter layer {name!r} hold NaN or Inf.")
        for moments in sums.values():
            for rows, _ in _strips(len(moments)):
                moments[: rows.start, rows] = moments[rows, : rows.start].T
            moments.div_(self.tokens)
        return {name: sums[source[name]] for name in layers}

    def _outside(self) -> list[str]:
        """Return the weights that are in no block: of a model without storage, those that come before the first."""
        names = [name for name in self.weights if not name.startswith(f"{self._prefix}.")]
        if self._home.type != "meta":
            return names
        base: Any = self.model.base_model
        known = dict(self.model.named_parameters(remove_duplicate=False)) | dict(self.model.named_buffers())
        needed = {id(tensor) for tensor in (*base.parameters(), *base.buffers())}
        return [name for name in names if id(known.get(name)) in needed]

    @torch.no_grad()
    def _enter(self, batch: Batch) -> _InFlight:
        """Run the model with blocks that only note what they are called with and hand the hidden states on."""
        home = self.device if self._home.type == "meta" else self._home
        inputs = {name: tensor.to(home) for name, tensor in model_inputs(batch).items()}
        hidden: list[Tensor] = []
        calls: list[Call] = []

        def note(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            hidden.append(hidden_states)
            calls.append((args, kwargs))
            return hidden_states

        with _forward_replaced(self._blocks, note):
            # The base model stops before the head, whose logits over every position would be the largest tensor of all.
            self.model.base_model(**inputs, use_cache=False)  # type: ignore[operator]
        if len(hidden) != len(self._blocks) or any(entered is not hidden[0] for entered in hidden):
            raise UserError(
                f"{type(self.model).__name__} does more between its decoder blocks than hand on the hidden states;"
                " calibration block by block does not support it."
            )
        mask = inputs.get("attention_mask", torch.ones(hidden[0].shape[:2]))
        return _InFlight(_to(hidden[0], self.device), _to(calls, self.device), mask.bool().flatten().to(self.device))


def save_moments(path: Path, moments: Mapping[str, Tensor]) -> None:
    """Write what `second_moments` returned; a tensor that several layers share is written once."""
    first: dict[int, str] = {}
    shared = {name: first.setdefault(id(h), name) for name, h in moments.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    save_file({name: moments[name] for name in first.values()}, partial, metadata=shared)
    partial.replace(path)


def load_moments(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    """Read what `save_moments` wrote; layers that shared a tensor share it again."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return {name: tensors[source] for name, source in file.metadata().items() if source in tensors}


def _strips(columns: int) -> list[tuple[slice, int]]:
    """Return rows of H, and the column up to which each is computed: all of a small H, whose digits are published."""
    height = columns if columns < LARGE else -(-columns // STRIPS)
    starts = range(0, columns, height)
    return [(slice(start, min(start + height, columns)), min(start + height, columns)) for start in starts]


@contextmanager
def _accumulate(
    layers: Mapping[str, nn.Module], tokens: Tensor, sums: dict[str, Tensor], source: dict[str, str]
) -> Iterator[None]:
    """Add 2 X^T X of one batch to `sums`, once per distinct input tensor, under the name of the first layer to read it.

    Of large ones little more than the lower triangle is computed (see `_strips`).

    Args:
        layers: the layers to watch.
        tokens: which rows of X count, bool `[rows]`.
        sums: `[c, c]` by layer; added to.
        source: for each layer, the one whose entry of `sums` it shares; filled.
    """
    # Holding on to every input keeps its id from being given to another.
    seen: dict[int, tuple[str, Tensor]] = {}

    def watch(name: str, inputs: Tensor) -> None:
        first, _ = seen.setdefault(id(inputs), (name, inputs))
        source[name] = first
        if first == name:
            x = inputs.flatten(0, -2)[tokens].float()
            if name not in sums:
                sums[name] = x.new_zeros(x.shape[1], x.shape[1])
            for rows, end in _strips(x.shape[1]):
                sums[name][rows, :end].addmm_(x[:, rows].T, x[:, :end], alpha=2)

    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: watch(name, args[0]))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _forward_replaced(modules: nn.ModuleList, forward: Any) -> Iterator[None]:
    """Let every module run `forward` instead of its own for a while."""
    own = [module.__dict__.get("forward") for module in modules]
    for module in modules:
        module.forward = forward
    try:
        yield
    finally:
        for module, instance_forward in zip(modules, own, strict=True):
            if instance_forward is None:
                del module.forward
            else:
                module.forward = instance_forward


def _hidden(output: Any) -> Tensor:
    """Return the hidden states of a block's output, which may hold more."""
    return output[0] if isinstance(output, tuple) else output


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _to(value: Any, device: torch.device) -> Any:
    """Move every tensor of nested tuples, lists and dicts to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(_to(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    return value
