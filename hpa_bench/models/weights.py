"""Weights as read-only mappings from parameter name to tensor: read, merged and written one tensor at a time."""

from __future__ import annotations

import json
import shutil
import weakref
from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from hpa_bench.errors import UserError
from hpa_bench.models.config import (
    ADAPTER_CONFIG,
    ADAPTER_PREFIX,
    ADAPTER_WEIGHTS,
    BESIDE_WEIGHTS,
    adapter_scale,
)
from hpa_bench.models.folder import stored_files
from hpa_bench.models.shards import Form, Shard, create

Weights = Mapping[str, Tensor]
"""Tensors by parameter name (`<module>.weight`)."""


class Checkpoint(Mapping[str, Tensor]):
    """A Hugging Face checkpoint by the parameter names of its model; a tensor is read when it is asked for.

    Its files are open from their first tensor until nobody holds the checkpoint any more.

    Files may use other names than the model's modules (`language_model.model.layers` for what the model calls
    `model.language_model.layers`): the model's own renaming rules translate.
    """

    def __init__(self, folder: Path, model: nn.Module) -> None:
        """Open a checkpoint.

        Args:
            folder: holds safetensors, in one file or with an index.
            model: what the checkpoint is of; only its names are used.

        Raises:
            UserError: the folder holds no safetensors checkpoint, or one of another model.
        """
        self.folder = folder
        stored = stored_files(folder)
        known = set(model.state_dict())
        # Transformers writes published names, but reads the modules' own names just as well.
        published = {} if known >= stored.keys() else _published_names(model)
        strangers = [name for name in stored if name not in known and name not in published]
        if strangers:
            raise UserError(
                f"The checkpoint {folder} is of another model: {type(model).__name__} has no {strangers[0]!r}."
            )
        self.places = {published.get(name, name): (file, name) for name, file in stored.items()}
        """The file, and the name in it, of each parameter."""
        # To open a file for each of its tensors takes several times as long as to read them.
        self._open: dict[str, Shard] = {}
        self._closing = ExitStack()
        weakref.finalize(self, self._closing.close)

    def __getitem__(self, name: str) -> Tensor:
        file, stored_name = self._place(name)
        return file.read(stored_name)

    def form(self, name: str) -> Form:
        """Return the shape and the dtype of a parameter, reading none of its values."""
        file, stored_name = self._place(name)
        return file.forms[stored_name]

    def _place(self, name: str) -> tuple[Shard, str]:
        """Return the open file that holds a parameter, and its name there."""
        file, stored_name = self.places[name]
        if file not in self._open:
            self._open[file] = shard = Shard(self.folder / file)
            self._closing.callback(shard.close)
        return self._open[file], stored_name

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    @property
    def file_sizes(self) -> list[int]:
        """The size of each of its safetensors files in bytes."""
        return [(self.folder / file).stat().st_size for file in sorted({file for file, _ in self.places.values()})]

    @property
    def file_bytes(self) -> int:
        """The size of its safetensors files, all together."""
        return sum(self.file_sizes)


def _published_names(model: nn.Module) -> dict[str, str]:
    """Return the module's name of each parameter by the name under which transformers publishes it."""
    return {
        published: name
        for name, tensor in model.state_dict().items()
        for published in revert_weight_conversion(model, {name: tensor})  # type: ignore[arg-type]
    }


class Merged(Mapping[str, Tensor]):
    """`before` with a saved LoRA adapter merged in: `W + (alpha / r) B A`, in float32, cast to W's dtype.

    Merging in float32 keeps the rounding of T merges from adding up. Modules that the adapter trained in full replace
    those of `before`.
    """

    def __init__(self, before: Weights, adapter: Path, device: str | torch.device = "cpu") -> None:
        """Read an adapter.

        Args:
            before: theta_{t-1}.
            adapter: a folder as peft's `save_pretrained` writes it.
            device: where weights are merged, one at a time; a GPU does in no time what takes a CPU longer than the rest
                of an edit.
        """
        self.before = before
        self.device = device
        config = json.loads((adapter / ADAPTER_CONFIG).read_text())
        self.scale = adapter_scale(config)
        self._file = Shard(adapter / ADAPTER_WEIGHTS)
        weakref.finalize(self, self._file.close)
        self._a: dict[str, str] = {}
        self._b: dict[str, str] = {}
        self._full: dict[str, str] = {}
        for key in self._file.forms:
            name = key.removeprefix(ADAPTER_PREFIX)
            if ".lora_A." in name:
                self._a[name.replace(".lora_A.", ".")] = key
            elif ".lora_B." in name:
                self._b[name.replace(".lora_B.", ".")] = key
            elif name in before or not config.get("ensure_weight_tying"):
                # Of two tied modules, a checkpoint holds one and peft saves both.
                self._full[name] = key
        strangers = [name for name in [*self._a, *self._full] if name not in before]
        if strangers:
            raise UserError(f"The adapter in {adapter} changes {strangers[0]!r}, which the checkpoint does not have.")

    def update(self, name: str) -> Tensor:
        """Return `(alpha / r) B A` [out_features, in_features] in float32 for an adapted weight, on `device`."""
        b, a = (self._file.read(keys[name]).to(self.device).float() for keys in (self._b, self._a))
        return self.scale * (b @ a)

    def changed_shape(self, name: str) -> list[int]:
        """Return the shape of what the adapter has for a weight that it changes."""
        if name in self._full:
            return self._file.forms[self._full[name]].shape
        return [self._file.forms[self._b[name]].shape[0], self._file.forms[self._a[name]].shape[1]]

    @property
    def adapted(self) -> list[str]:
        """Names of the weights that carry an adapter."""
        return list(self._a)

    @property
    def trained(self) -> list[str]:
        """Names of the weights that may differ from `before`'s."""
        return [*self._a, *self._full]

    def unrounded(self, name: str) -> Tensor:
        """Return a weight as merged in float32, on `device`, before it is rounded to the checkpoint's dtype."""
        if name in self._full:
            return self._file.read(self._full[name])
        weight = self.before[name]
        return weight.to(self.device).float() + self.update(name) if name in self._a else weight

    def __getitem__(self, name: str) -> Tensor:
        weight = self.before[name]
        return self.unrounded(name).to(weight.dtype).to(weight.device)

    def __iter__(self) -> Iterator[str]:
        return iter(self.before)

    def __len__(self) -> int:
        return len(self.before)

    def __contains__(self, name: object) -> bool:
        return name in self.before


def not_finite(tensor: Tensor) -> int:
    """Return how many values of a tensor are NaN or infinite.

    By the least and the largest, which a NaN becomes too: `isfinite` takes much longer, and twice the memory of what it
    is given, while one block of a model is at work and the next is read.
    """
    if not tensor.numel() or all(bound.isfinite() for bound in tensor.aminmax()):
        return 0
    return int((~tensor.isfinite()).sum())


def unrounded(weights: Weights, name: str) -> Tensor:
    """Return a weight for a method to edit: of a merge, in float32.

    In bfloat16 a weight moves in steps of 1/256 to 1/128 of itself. Whoever edits a rounded weight by less than half of
    that, and rounds again, changes nothing at all.
    """
    return weights.unrounded(name) if isinstance(weights, Merged) else weights[name]


def overlaid(changes: Weights, base: Weights) -> Weights:
    """Return `base` with the weights in `changes` in place of its own."""
    return ChainMap(changes, base)  # type: ignore[arg-type]


def load_into(model: nn.Module, weights: Weights, prefix: str = "") -> None:
    """Copy every weight whose name starts with `prefix` into the model, in place.

    Raises:
        UserError: the model has no parameter of that name; the checkpoint was saved by another version or class.
    """
    targets = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        for name in weights:
            if name.startswith(prefix):
                if name not in targets:
                    raise no_parameter(model, name)
                targets[name].copy_(weights[name])


def no_parameter(model: nn.Module, name: str) -> UserError:
    """Return the error for a weight that a model has no place for."""
    return UserError(
        f"{type(model).__name__} has no parameter {name!r}: save the checkpoint again with this version of transformers"
        " (from_pretrained, then save_pretrained)."
    )


class Writer:
    """Writes a Hugging Face checkpoint with the files, configuration and processor of another, a tensor at a time.

    Of what a killed process has written, the next one finds all that was on the disk by then.
    """

    def __init__(self, folder: Path, like: Checkpoint) -> None:
        """Make the files, or take those that are there.

        Args:
            folder: where to; created.
            like: the checkpoint whose layout is followed, and whose tensors' shapes and dtypes these have.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._like = like
        forms: dict[str, dict[str, Form]] = {}
        for name, (file, stored_name) in like.places.items():
            forms.setdefault(file, {})[stored_name] = like.form(name)
        self._shards: dict[str, Shard] = {}
        self._closing = ExitStack()
        weakref.finalize(self, self._closing.close)
        for file, held in forms.items():
            self._shards[file] = shard = create(folder / file, held)
            self._closing.callback(shard.close)

    @property
    def new(self) -> list[Path]:
        """The files that were not there, or were others."""
        return [shard.path for shard in self._shards.values() if shard.is_new]

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a parameter, in the place of what was written of it before.

        Raises:
            ValueError: it has another shape or dtype than in the checkpoint whose layout is followed.
        """
        file, stored_name = self._like.places[name]
        self._shards[file].write(stored_name, tensor)

    def read(self, name: str) -> Tensor:
        """Return a parameter as it was written."""
        file, stored_name = self._like.places[name]
        return self._shards[file].read(stored_name)

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        for shard in self._shards.values():
            shard.sync()

    def close(self) -> None:
        """Close the files."""
        self._closing.close()

    def finish(self, chat_template: str | None = None) -> None:
        """Put what a checkpoint has beside its weights there, and close the files.

        Args:
            chat_template: Jinja text that takes the place of the chat template of the other checkpoint.
        """
        self.sync()
        self.close()
        for extra in sorted(self._like.folder.iterdir()):
            if extra.is_file() and any(extra.match(pattern) for pattern in BESIDE_WEIGHTS):
                shutil.copyfile(extra, self.folder / extra.name)
        if chat_template is not None:
            # Where older checkpoints keep theirs, which would be read in preference.
            (self.folder / "chat_template.json").unlink(missing_ok=True)
            (self.folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")


def write_checkpoint(folder: Path, like: Checkpoint, weights: Weights, chat_template: str | None = None) -> None:
    """Write weights as a Hugging Face checkpoint; one tensor is in memory at a time.

    Args:
        folder: where to; created.
        like: the checkpoint whose layout is followed (see `Writer`).
        weights: a tensor for each name of `like`.
        chat_template: Jinja text that takes the place of the chat template of `like`.
    """
    writer = Writer(folder, like)
    for name in like:
        writer.write(name, weights[name])
    writer.finish(chat_template)
