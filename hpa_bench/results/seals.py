"""Seals: sizes and SHA-256 of files that a later step reads, so that one lost, cut or altered since is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from hpa_bench.errors import UserError
from hpa_bench.files import PARTIAL, write_json

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
        files: by default every file below the folder; the seal itself is none of them, nor what a killed process was
            writing.
    """
    if files is None:
        found = (file for file in folder.rglob("*") if file.is_file() and file.name != SEAL)
        files = [file for file in found if not file.name.endswith(PARTIAL)]
    return {str(file.relative_to(folder)): _sealed(file) for file in sorted(files)}


def seal(folder: Path) -> None:
    """Write a folder's seal into it."""
    write_json(folder / SEAL, seal_of(folder))


def check_folder(folder: Path, remedy: str) -> None:
    """Check a folder against the seal in it; one without a seal, as older versions wrote them, passes.

    Raises:
        UserError: a file is missing, or is not as it was; the message names it and ends with the remedy.
    """
    check(folder, folder / SEAL, remedy)


def check(folder: Path, mark: Path, remedy: str, among: Callable[[str], bool] = lambda name: True) -> None:
    """Check files against the seal that a mark holds, such as a stage's DONE.

    Args:
        folder: what its paths are relative to.
        mark: the file with the seal; one that is empty or not there is an older version's, and passes.
        remedy: what to do where a file is not as it was, for the message.
        among: whether a path is to be looked at; by default all are.

    Raises:
        UserError: a file is missing, or is not as it was, or the mark holds something else; the message names both.
    """
    for name, known in _read(mark, remedy).items() if mark.exists() and mark.stat().st_size else ():
        if not among(name):
            continue
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file} is missing, which was there when {mark} was written: {remedy}.")
        if (size := file.stat().st_size) != known["bytes"]:
            raise UserError(f"{file} has {size} bytes and had {known['bytes']} when {mark} was written: {remedy}.")
        if _sealed(file)["sha256"] != known["sha256"]:
            raise UserError(f"{file} has changed since it was written (its SHA-256 is not that in {mark}): {remedy}.")


def sealed_names(mark: Path, remedy: str) -> set[str]:
    """Return the paths that a mark seals; none where it is an older version's.

    Raises:
        UserError: the mark holds something else.
    """
    return set(_read(mark, remedy)) if mark.exists() and mark.stat().st_size else set()


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
