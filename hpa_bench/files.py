"""Files that are whole or not there: atomic writes, JSON, JSON lines; a torn one is one sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hpa_bench.errors import UserError

PUT_BACK = "put it back as it was, or make it again"
"""What to do about a file that is not whole, where nobody knows better."""
PARTIAL = ".partial"


def is_vacant(folder: Path) -> bool:
    """Return whether a folder is not there yet, or holds nothing."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def check_vacant(out: Path) -> None:
    """Refuse an `--out` that holds something.

    Raises:
        UserError: it is a file, or a folder that is not empty.
    """
    if not is_vacant(out):
        raise UserError(f"--out {out} is there already: expected a folder that does not exist yet, or an empty one.")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there, file or folder, becomes `path` on a clean exit.

    It has reached the disk by then: what has its final name is whole, also after a power cut. What ends in an error,
    such as that of a full disk, is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    remove(partial)
    try:
        yield partial
    except Exception:
        with suppress(OSError):
            remove(partial)
        raise
    move_whole(partial, path)


def move_whole(partial: Path, path: Path) -> None:
    """Give a file or folder its final name once all of it is on the disk; a folder replaces what was there."""
    if partial.is_dir():
        for inside in partial.rglob("*"):
            _to_disk(inside)
    _to_disk(partial)
    if partial.is_dir():
        remove(path)
    partial.replace(path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        # Some file systems have no fsync of folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or path.is_file():
            raise
    finally:
        os.close(opened)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; NaN is refused, since a missing value has a reason instead."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    with atomic(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = PUT_BACK) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        remedy: what to do where it is not whole, for the message.

    Raises:
        UserError: it is missing, or torn.
    """
    return _parsed(path, read_text(path, remedy), remedy)


def read_object(path: Path, remedy: str = PUT_BACK) -> dict[str, Any]:
    """Read a JSON file that holds an object; arguments and errors are those of `read_json`."""
    found = read_json(path, remedy)
    if not isinstance(found, dict):
        raise UserError(f"{path} is not whole: expected one JSON object: {remedy}.")
    return found


def read_jsonl(path: Path, keys: Sequence[str] = (), remedy: str = PUT_BACK) -> list[dict[str, Any]]:
    """Read one JSON object a line.

    Args:
        path: of the file.
        keys: what every object has.
        remedy: what to do where the file is not whole, for the message.

    Raises:
        UserError: it is missing, or torn, or a line is no such object.
    """
    # Not splitlines(): a response may hold any other Unicode line end. Parsed as one array, in a third of the time.
    lines = [line for line in read_text(path, remedy).split("\n") if line]
    rows: list[dict[str, Any]] = _parsed(path, f"[{','.join(lines)}]", remedy)
    for row in rows:
        lacking = [key for key in keys if key not in row] if isinstance(row, dict) else ["{"]
        if lacking:
            raise UserError(f"{path} has a line without {lacking[0]!r}: {remedy}.")
    return rows


def read_text(path: Path, remedy: str = PUT_BACK) -> str:
    """Read a text file; arguments and errors are those of `read_json`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {remedy}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not whole: it is no UTF-8: {remedy}.") from None


def _parsed(path: Path, text: str, remedy: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not whole: it is no JSON ({error}): {remedy}.") from None


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
