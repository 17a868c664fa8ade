"""What a frozen vision tower makes of an image: computed once, alone, and kept for all stages."""

from __future__ import annotations

import hashlib
import inspect
import weakref
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from transformers.modeling_outputs import BaseModelOutputWithPooling

from hpa_bench.errors import UserError
from hpa_bench.machine import products
from hpa_bench.models.decoder import Decoder

MEBIBYTE = 2**20
GROUP = 16
"""Images computed together, where that changes no digit."""


class _Kept(NamedTuple):
    """The features of one image, on the CPU."""

    tensor: Tensor
    listed: bool
    """Whether the model gives a list of images' features, and not one tensor."""


def keep_features(model: nn.Module, decoder: Decoder, mebibytes: int) -> None:
    """Let a model keep the features of the images that it sees, where all that they depend on is frozen.

    An image has the digits that it has alone, whatever it came in a batch with and whether there is still room for it,
    so that no number depends on what was seen before. Dropout is off. What gradients go through is never kept.

    Args:
        model: an image-text-to-text model of transformers.
        decoder: its decoder: features do not depend on what is inside its blocks.
        mebibytes: memory for features, on the CPU; an image that finds no room is computed each time.

    Raises:
        UserError: the model has no `get_image_features`, as where images enter the decoder in another way.
    """
    # Whoever calls the outer one reaches the inner one, and the model's own forward calls the inner one alone.
    owners = [(name, module) for name, module in model.named_modules() if hasattr(type(module), "get_image_features")]
    if not owners:
        raise UserError(
            f"image_features.keep: {type(model).__name__} has no get_image_features(), so that its images' features"
            " cannot be told apart from the rest; set image_features.keep=false."
        )
    name, owner = max(owners, key=lambda found: len(found[0]))
    inside = decoder.prefix.removeprefix(f"{name}.") if name else decoder.prefix
    owner.get_image_features = _Keeper(owner, inside, mebibytes * MEBIBYTE)  # type: ignore[assignment]


class _Keeper:
    """Stands in the place of a module's `get_image_features`."""

    def __init__(self, owner: nn.Module, blocks: str, limit: int) -> None:
        # The module holds its keeper: were it held in turn, neither would leave the GPU when a run ends.
        self._owner = weakref.ref(owner)
        self._blocks = blocks
        self._limit = limit
        self._kept: dict[tuple[Any, ...], _Kept] = {}
        self._bytes = 0
        self._seen: list[tuple[StorageWeakRef, int, int]] = []
        """The tensors' storages, where they lie and their versions, by which unchanged ones are told without being
        read. A weak reference to a tensor itself would forbid torch to swap it, as a module does that moves."""
        self._digest = b""
        """Of the weights that what is kept was computed with."""
        self._alike: dict[int, bool] = {}
        """Whether so many images, computed together, have the digits that each has alone."""
        # Generation looks at its parameters.
        self.__signature__ = inspect.signature(self._compute)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Keeper:
        owner = self._module
        return _Keeper(memo.get(id(owner), owner), self._blocks, self._limit)

    def __call__(self, *positional: Any, **options: Any) -> Any:
        """Return what the module itself returns, of which only `pooler_output` is filled.

        Raises:
            UserError: an image of this model is more than one row of `pixel_values`.
        """
        options = dict(zip(self.__signature__.parameters, positional, strict=False)) | options
        weights = list(self._weights())
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in weights):
            return self._compute(**options)
        pixel_values = options.pop("pixel_values")
        # The rest of what a model is called with comes here too, such as the answer tokens of a training step.
        options.pop("num_items_in_batch", None)
        if further := [name for name, value in options.items() if isinstance(value, Tensor)]:
            raise UserError(
                f"image_features.keep: an image of {type(self._module).__name__} is told by {further[0]} too, and only"
                " models whose images are rows of pixel_values can keep them; set image_features.keep=false."
            )
        self._forget_if_changed(weights)
        named = self.__signature__.parameters
        options = {name: value for name, value in options.items() if name in named and value is not None}
        found = self._features(pixel_values, options)
        tensors = [kept.tensor.to(pixel_values.device) for kept in found]
        return BaseModelOutputWithPooling(pooler_output=tensors if found[0].listed else torch.stack(tensors))  # type: ignore[arg-type]

    @property
    def _module(self) -> nn.Module:
        owner = self._owner()
        assert owner is not None, "it is called through its module"
        return owner

    @property
    def _compute(self) -> Any:
        return type(self._module).get_image_features.__get__(self._module)  # type: ignore[attr-defined]

    def _parts(self) -> Iterator[nn.Module]:
        """Yield the modules that features may depend on: those outside the decoder's blocks."""
        try:
            blocks: nn.Module | None = self._module.get_submodule(self._blocks)
        except AttributeError:  # The decoder is no part of it.
            blocks = None
        return _outside(self._module, blocks)

    def _weights(self) -> Iterator[Tensor]:
        for module in self._parts():
            yield from (tensor for tensor in module._parameters.values() if tensor is not None)
            yield from (tensor for tensor in module._buffers.values() if tensor is not None)

    def _forget_if_changed(self, weights: Sequence[Tensor]) -> None:
        """Drop what is kept where the weights are others; equal values that were loaded again are the same."""
        if len(weights) == len(self._seen) and all(
            not storage.expired()
            and (storage.cdata, place, version) == (tensor.untyped_storage()._cdata, tensor.data_ptr(), tensor._version)
            for tensor, (storage, place, version) in zip(weights, self._seen, strict=True)
        ):
            return
        digest = hashlib.sha256()
        for tensor in weights:
            digest.update(_bytes(tensor))
        if digest.digest() != self._digest:
            self._kept, self._bytes, self._digest = {}, 0, digest.digest()
        self._seen = [
            (StorageWeakRef(tensor.untyped_storage()), tensor.data_ptr(), tensor._version) for tensor in weights
        ]

    def _features(self, images: Tensor, options: Mapping[str, Any]) -> list[_Kept]:
        """Return the features of each image, kept ones where there are."""
        device = images.device.type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        about = (images.shape[1:], images.dtype, device, cast, repr(options))
        keys = [(hashlib.sha256(_bytes(image)).digest(), *about) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._kept}
        found: dict[tuple[Any, ...], _Kept] = {}
        keys_left = iter(new)
        while group := list(islice(keys_left, GROUP)):
            found |= zip(group, self._computed([new[key] for key in group], options), strict=True)
        for key, kept in found.items():
            if self._bytes + kept.tensor.nbytes <= self._limit:
                self._bytes += kept.tensor.nbytes
                self._kept[key] = kept
        return [self._kept[key] if key in self._kept else found[key] for key in keys]

    def _computed(self, images: Sequence[Tensor], options: Mapping[str, Any]) -> list[_Kept]:
        """Return the features of images, each with the digits that it has alone.

        Rows of portable products do not depend on each other. That nothing else of the tower makes them do so is tried
        once for each number of images.
        """
        count = len(images)
        if count > 1 and products.in_force() and self._alike.get(count, True):
            together = self._run(torch.stack(tuple(images)), options)
            if count not in self._alike:
                self._alike[count] = torch.equal(together[-1].tensor, self._run(images[-1][None], options)[0].tensor)
            if self._alike[count]:
                return together
        return [self._run(image[None], options)[0] for image in images]

    def _run(self, images: Tensor, options: Mapping[str, Any]) -> list[_Kept]:
        training = [module for module in self._parts() if module.training]
        for module in training:
            module.training = False
        try:
            # What inference mode makes may enter no training step.
            with torch.inference_mode(False), torch.no_grad():
                found = self._compute(images.clone(), **options).pooler_output
        finally:
            for module in training:
                module.training = True
        if len(found) != len(images):
            raise UserError(
                f"image_features.keep: {type(self._module).__name__} gives {len(found)} features for {len(images)}"
                " images; set image_features.keep=false."
            )
        return [_Kept(one.clone().cpu(), not isinstance(found, Tensor)) for one in found]


def _outside(module: nn.Module, blocks: nn.Module | None) -> Iterator[nn.Module]:
    yield module
    for child in module.children():
        if child is not blocks:
            yield from _outside(child, blocks)


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy()
