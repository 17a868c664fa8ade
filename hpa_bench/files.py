"""Files that are whole or not there: atomic writes, JSON, JSON lines."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there, file or folder, becomes `path` on a clean exit.

    It has reached the disk by then: what has its final name is whole, also after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    remove(partial)
    yield partial
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


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line."""
    # Not splitlines(): a response may hold any other Unicode line end. Parsed as one array, in a third of the time.
    lines = (line for line in path.read_text(encoding="utf-8").split("\n") if line)
    rows: list[dict[str, Any]] = json.loads(f"[{','.join(lines)}]")
    return rows


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
