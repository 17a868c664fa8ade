"""What rows of the drawn world say, found without looking at how they were made."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from hpa_bench.tiny import world

Row = dict[str, Any]


def scenes(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return what the rows' pictures show."""
    return [json.loads(row["scene"]) for row in rows]


def part_of(scene: dict[str, Any]) -> str:
    """Return the part that a scene is of."""
    return world.part(f"digit {scene['index']}" if scene["kind"] == "digit" else world.construct(scene))


def pairs(rows: Iterable[Row]) -> set[tuple[str, str]]:
    """Return the verb-object pairs that the questions name."""
    found = set()
    for row in rows:
        words = row["question"].lower().rstrip("?.").split()
        if words[-2] == "the":
            found.add((words[-3], words[-1]))
    return found


def digest(rows: Any) -> str:
    """Return a SHA-256 over rows."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def digest_elsewhere(module: str, expression: str) -> str:
    """Return the digest of the rows that an expression is in a process of its own, where hashes of words differ."""
    code = (
        f"from hpa_bench.tiny import {module}; from tests.support.tiny_rows import digest; print(digest({expression}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()
