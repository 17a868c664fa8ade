"""Random streams by name, derived from a run's seed."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, name: str) -> int:
    """Return the seed of the random stream called `name` in the run with this seed (63 bits of a SHA-256)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
