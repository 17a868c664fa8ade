"""Seals: sizes and SHA-256 of files that a later step reads, so that one lost, cut or altered since is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from hpa_bench.errors import UserError
from hpa_bench.files import write_json

SEAL = "SEAL.json"
"""The seal of a folder, inside it."""


class Sealed(TypedDict):
    """What is known of a file."""

    bytes: int
    sha256: str


Seal = Mapping[str, Sealed]
"""By path, relative to a folder."""


def seal_of(folder: Path, files: Iterable[Path] | None = None) -> dict[str, Sealed]:
    """Return the seal of files below a folder, sorted by path.

    Args:
        folder: what paths are relative to.
        files: by default every file below the folder, the seal itself aside.
    """
    if files is None:
        files = (file for file in folder.rglob("*") if file.is_file() and file.name != SEAL)
    return {str(file.relative_to(folder)): _sealed(file) for file in sorted(files)}


def seal(folder: Path) -> None:
    """Write a folder's seal into it."""
    write_json(folder / SEAL, seal_of(folder))


def check_folder(folder: Path, remedy: str) -> None:
    """Check a folder against the seal in it; one without a seal, as older versions wrote them, passes.

    Raises:
        UserError: a file is missing, or is not as it was; the message names it and ends with the remedy.
    """
    if (folder / SEAL).exists():
        check(folder, _read(folder / SEAL, remedy), remedy)


def check(folder: Path, expected: Seal, remedy: str) -> None:
    """Check files against a seal.

    Args:
        folder: what its paths are relative to.
        expected: the seal.
        remedy: what to do where a file is not as it was, for the message.

    Raises:
        UserError: a file is missing, or is not as it was.
    """
    for name, known in expected.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file} is missing, which was there when its folder was finished: {remedy}.")
        if (size := file.stat().st_size) != known["bytes"]:
            raise UserError(f"{file} has {size} bytes and had {known['bytes']} when it was written: {remedy}.")
        if _sealed(file)["sha256"] != known["sha256"]:
            raise UserError(f"{file} has changed since it was written (its SHA-256 differs): {remedy}.")


def read_seal(path: Path, remedy: str) -> Seal:
    """Return the seal that a mark holds, such as a stage's DONE; that of an older version is empty.

    Raises:
        UserError: it is neither empty nor a seal.
    """
    return _read(path, remedy) if path.stat().st_size else {}


def _sealed(file: Path) -> Sealed:
    with file.open("rb") as opened:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def _read(path: Path, remedy: str) -> Seal:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(each["bytes"], int) and isinstance(each["sha256"], str) for each in found.values()):
            return found
    except (ValueError, AttributeError, TypeError, KeyError):
        pass
    raise UserError(f"{path} is not whole: expected sizes and SHA-256 of files as JSON: {remedy}.")
