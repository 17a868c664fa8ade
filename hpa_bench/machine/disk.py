"""The disk space that a run needs, checked before it trains."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from hpa_bench.errors import UserError

ADAPTER = 4
"""Bytes of a trained parameter in an adapter: float32."""
TRAINER = 3 * ADAPTER
"""Bytes of a trained parameter in a trainer's checkpoint: itself and AdamW's two moments."""


def peak_bytes(checkpoint: int, trainable: int, stages: int, mergeable: bool = True, keep_weights: bool = False) -> int:
    """Return what a run's weights, adapters and trainer checkpoints take at their fullest, in bytes.

    A stage's weights are removed once the next stage is done, and a trainer checkpoint once the next is written. What a
    method remembers, and responses, are not counted.

    Args:
        checkpoint: bytes of the aligned model's safetensors, and so of every stage's.
        trainable: parameters that a stage trains.
        stages: training stages.
        mergeable: whether stages write merged weights at all.
        keep_weights: whether every stage's stay.
    """
    if stages == 0:
        return 0
    earlier = stages - 1 if keep_weights else min(stages, 2) - 1
    stage = trainable * ADAPTER + (checkpoint if mergeable else 0)
    training = earlier * stage + 2 * trainable * TRAINER
    saving = (earlier + 1) * stage + trainable * TRAINER
    return max(training, saving)


def check_space(folder: Path, needed: int, present: Iterable[Path] = ()) -> None:
    """Check that a file system has room for a run.

    Args:
        folder: the run's folder.
        needed: bytes at its fullest.
        present: files and folders of an earlier attempt that are a part of `needed`.

    Raises:
        UserError: there is too little; the message says how much, where, and what to do.
    """
    files = (file for path in present for file in (path, *path.rglob("*")) if file.is_file())
    missing = needed - sum(file.stat().st_size for file in files)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise UserError(
            f"This run needs {_size(missing)} of disk space for weights, adapters and trainer checkpoints, and the file"
            f" system of {folder} has {_size(free)} free: free some, or choose another disk with --out."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
