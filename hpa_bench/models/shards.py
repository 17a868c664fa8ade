"""Safetensors files, read and written a tensor at a time.

Nothing is mapped into memory: what is read is memory of its own, which goes when its tensor does, and a file is written
in any order of its tensors, none of which stays. Bytes are those of safetensors' own writer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpa_bench.errors import UserError

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
"""By the format's names, in the order of safetensors' own writer, which puts the last ones first in a file."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_RANK = {name: rank for rank, name in enumerate(DTYPES)}
_ALIGNED = 8
"""Bytes that the length of a header is a multiple of."""


class Form(NamedTuple):
    """What a tensor is without its values."""

    shape: list[int]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Shard:
    """One safetensors file: which tensors it holds, each read or written by itself, by several threads at once."""

    def __init__(self, path: Path, flags: int = os.O_RDONLY, is_new: bool = False) -> None:
        """Open a file, whose header must be whole (see `hpa_bench.models.folder.stored_files`).

        Raises:
            UserError: it holds numbers that torch does not have.
        """
        self.path = path
        self.is_new = is_new
        self._file = os.open(path, flags)
        length = int.from_bytes(os.pread(self._file, 8, 0), "little")
        header = json.loads(os.pread(self._file, length, 8))
        header.pop("__metadata__", None)
        strange = next((about["dtype"] for about in header.values() if about["dtype"] not in DTYPES), None)
        if strange is not None:
            raise UserError(f"{path} holds numbers of the kind {strange}: expected weights that are not quantised.")
        self.forms = {name: Form(about["shape"], DTYPES[about["dtype"]]) for name, about in header.items()}
        """Shape and dtype by name."""
        self._places = {name: 8 + length + about["data_offsets"][0] for name, about in header.items()}

    def read(self, name: str) -> Tensor:
        """Return a tensor on the CPU."""
        tensor = torch.empty(self.forms[name].shape, dtype=self.forms[name].dtype)
        left, place = _bytes_of(tensor), self._places[name]
        while left.nbytes:  # The system reads some 2 GB at a time.
            if not (count := os.preadv(self._file, [left], place)):
                raise OSError(f"{self.path} ends within {name!r}")
            left, place = left[count:], place + count
        return tensor

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a tensor of the form that the header says, from any device.

        Raises:
            ValueError: it has another shape or dtype.
        """
        if Form(list(tensor.shape), tensor.dtype) != self.forms[name]:
            raise ValueError(f"{name!r} is {list(tensor.shape)} in {tensor.dtype}: expected {self.forms[name]}")
        left, place = _bytes_of(tensor.detach().cpu().contiguous()), self._places[name]
        while left.nbytes:
            count = os.pwrite(self._file, left, place)
            left, place = left[count:], place + count

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def create(path: Path, forms: Mapping[str, Form]) -> Shard:
    """Return a file of tensors that are still to be written.

    One that is there with this header, and as long, is taken as it is.

    Args:
        path: of the file.
        forms: shape and dtype by name.
    """
    header = _header(forms)
    size = len(header) + sum(form.nbytes for form in forms.values())
    is_new = not (path.exists() and path.stat().st_size == size and _begins(path, header))
    if is_new:
        with path.open("wb") as file:
            file.write(header)
            file.truncate(size)
    return Shard(path, os.O_RDWR, is_new)


def _begins(path: Path, header: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(header)) == header


def _header(forms: Mapping[str, Form]) -> bytes:
    """Return what stands before the values: its length, and where each tensor is, as safetensors' own writer has it."""
    about: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in _in_order(forms):
        dtype, end = NAMES[forms[name].dtype], place + forms[name].nbytes
        about[name] = {"dtype": dtype, "shape": forms[name].shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def _in_order(forms: Mapping[str, Form]) -> Iterable[str]:
    return sorted(forms, key=lambda name: (-_RANK[NAMES[forms[name].dtype]], name.encode()))


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous CPU tensor."""
    values: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(values) if tensor.numel() else memoryview(b"")
