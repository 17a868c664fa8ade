"""Reading users' downloads: where one lies, its JSON files, its images."""

from __future__ import annotations

import json
import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpa_bench.errors import MissingImage, UserError, shown

LONGEST_PATH = 4096
"""Bytes of a path, on Linux."""


def folder_of(
    source: str, data_root: str | None, data_folders: Mapping[str, str] | None, default: str, where_to_get: str
) -> Path:
    """Return the folder that holds a download.

    Args:
        source: the download's key in `data_folders`, such as "vlguard".
        data_root: the folder of all downloads, or None where none was named.
        data_folders: a folder of its own for some downloads, by source.
        default: the folder's name below `data_root`.
        where_to_get: the download's official home, for the error.

    Raises:
        UserError: no folder was named, or it does not exist.
    """
    if data_folders and source in data_folders:
        folder = Path(data_folders[source]).expanduser()
    elif data_root is not None:
        folder = Path(data_root).expanduser() / default
    else:
        raise UserError(
            f"The download {source!r} is looked for in the folder of your downloads, and none is named: give"
            f" --data-root FOLDER, with {source!r} in FOLDER/{default} (from {where_to_get})."
        )
    if not folder.is_dir():
        raise UserError(
            f"The folder {folder} of the download {source!r} does not exist: get it from {where_to_get}, or correct"
            " --data-root or data_folders."
        )
    return folder


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: the file is missing or is not JSON, with its line and column and the likely cause.
    """
    if not path.is_file():
        raise UserError(f"The file {path} is missing: the download is incomplete, or its layout is another.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text)
    except OSError as error:
        raise UserError(f"The file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"The file {path} is not UTF-8 text (byte {error.start}): download it again.") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}:{error.colno} is not valid JSON ({error.msg}): {_cause(text, error.pos)}."
        ) from None
    except (ValueError, RecursionError):
        raise UserError(
            f"{path} is no JSON that can be read: it has a number of thousands of digits, or is nested"
            " thousands of levels deep."
        ) from None


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file can have, or one in a folder that is closed, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def image_path(root: Path, name: str, where: str) -> Path:
    """Return the path of an image that a row names.

    Args:
        root: the folder of the images, which no name may leave.
        name: relative to `root`.
        where: the row, for errors, such as "row 3 of test.json".

    Raises:
        MissingImage: there is no such file.
        UserError: the name is no relative path inside `root`.
    """
    if not isinstance(name, str) or not name.strip() or not _can_be_a_name(name):
        raise UserError(f"The image of {where} is {shown(name)}: expected a path relative to {root}.")
    if Path(name).is_absolute() or os.pardir in Path(os.path.normpath(name)).parts[:1]:
        raise UserError(f"The image {name!r} of {where} leaves the folder {root}: expected a path inside it.")
    path = root / name
    if not is_file(path):
        raise MissingImage(
            f"The image {path} of {where} is missing: the download is incomplete, or its images lie elsewhere."
        )
    if not any(path.resolve().is_relative_to(place) for place in _places(root.resolve())):
        raise UserError(
            f"The image {path} of {where} is a link out of the folder {root}, to {path.resolve()}: expected a file"
            " below it, so copy the file there, or name the folder that it lies in."
        )
    return path


def _can_be_a_name(name: str) -> bool:
    """Whether a text can be the path of a file, and written down."""
    try:
        return len(name.encode()) < LONGEST_PATH and "\0" not in name
    except UnicodeEncodeError:
        return False


def _places(root: Path) -> list[Path]:
    """Return where the images of a folder may lie: below it or, of the hub's cache, where that keeps all files."""
    return [
        root,
        *(folder.parent.parent / "blobs" for folder in (root, *root.parents) if folder.parent.name == "snapshots"),
    ]


def _cause(text: str, position: int) -> str:
    """Return the likely cause of a JSON error."""
    if text.startswith("version https://git-lfs"):
        return "it is a pointer of git-lfs, not the data; run `git lfs pull` in the download"
    rest = text[position:].lstrip()
    if not rest:
        return "the file ends early, so the download is probably incomplete"
    # The error stands at the comma or behind it, by the version of Python.
    if rest.lstrip(", \t\r\n")[:1] in ("]", "}") and (rest[0] == "," or text[:position].rstrip().endswith(",")):
        return "there is a comma too many before the closing bracket"
    return "correct it there, or download it again"
