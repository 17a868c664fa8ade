"""What the disk must offer a run, checked before it trains, and what to say where it does not."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from hpa_bench.errors import UserError

ADAPTER = 4
"""Bytes of a trained parameter in an adapter: float32."""
TRAINER = 3 * ADAPTER
"""Bytes of a trained parameter in a trainer's checkpoint: itself and AdamW's two moments."""
GIVE_AGAIN = "give the same command again"
GOES_ON = "the same command goes on from the last finished step"
_NOTHING = 2**16
"""Free bytes that are as good as none."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that only writing has, whatever the file; libraries quote their words where Python's number is lost."""
_CLOSED = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors that are about a folder where they come of a file below it."""


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


def largest_file(checkpoint: Iterable[int], trainable: int, stages: int, mergeable: bool = True) -> int:
    """Return the bytes of the largest file among a run's weights, adapters and trainer checkpoints.

    Args:
        checkpoint: bytes of each of the aligned model's safetensors files.
        trainable: parameters that a stage trains; AdamW's two moments of them stand in one file.
        stages: training stages.
        mergeable: whether stages write merged weights at all.
    """
    return max(trainable * (TRAINER - ADAPTER), *(checkpoint if mergeable else ()), 0) if stages else 0


def check_space(
    folder: Path,
    needed: int,
    present: Iterable[Path] = (),
    largest: int = 0,
    what: tuple[str, str] = ("run", "weights, adapters and trainer checkpoints"),
) -> None:
    """Check that a file system has room for a run, and takes files of its size.

    Args:
        folder: the run's folder.
        needed: bytes at its fullest.
        present: files and folders of an earlier attempt that are a part of `needed`.
        largest: bytes of its largest file.
        what: who needs the room, and what for, for messages.

    Raises:
        UserError: there is too little; the message says how much, where, and what to do.
    """
    files = (file for path in present for file in (path, *path.rglob("*")) if file.is_file())
    missing = needed - sum(file.stat().st_size for file in files)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise UserError(
            f"This {what[0]} needs {_size(missing)} of disk space for {what[1]}, and the file system of {folder} has"
            f" {_size(free)} free: free some, or choose another disk with --out."
        )

    if 0 <= (most := _file_limit()) < largest:
        raise UserError(
            f"This {what[0]} writes files of {_size(largest)} to {folder}, and this process may write {_size(most)} to"
            " a file: raise the limit (ulimit -f)."
        )


@contextmanager
def refusals_told(folder: Path, then: str = GOES_ON) -> Iterator[None]:
    """Put one sentence in the place of whatever is raised because a folder cannot be written.

    Args:
        folder: what is written below; it need not exist.
        then: what to do once there is room, for the message.

    Raises:
        UserError: the sentence.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if said := refusal(folder, error, then):
            raise UserError(said) from error
        raise


def make_writable(folder: Path) -> None:
    """Make a folder and write a file in it that goes at once, so that nobody computes for a place that takes nothing.

    Raises:
        UserError: it cannot be made or written.
    """
    with refusals_told(folder, GIVE_AGAIN):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(b"0")


def refusal(folder: Path, error: Exception, then: str = GOES_ON) -> str:
    """Return what to say where an error comes of a folder that cannot be written; else ""; see `refusals_told`."""
    number, where = _cause(folder.resolve(), error)
    match number:
        case 0:
            return ""
        case errno.ENOSPC:
            return f"The disk of {where} is full: free some space; {then}."
        case errno.EDQUOT:
            return f"Your quota on the disk of {where} is used up: free some space; {then}."
        case errno.EFBIG:
            most = f" than {_size(_file_limit())}" if _file_limit() >= 0 else ""
            return f"A file in {where} may not become larger{most} (see ulimit -f): raise the limit; {then}."
        case errno.ENOTDIR if file := next((path for path in (where, *where.parents) if path.is_file()), None):
            return f"{where} cannot be made, since {file} is a file: choose another folder."
    what = "written" if os.access(where, os.F_OK) else "made"
    return f"{where} cannot be {what} ({os.strerror(number)}): choose a folder that this user may write to."


def _cause(folder: Path, error: Exception) -> tuple[int, Path]:
    """Return the errno of what keeps a folder, or a file elsewhere, from being written; 0 where the error is another.

    Args:
        folder: absolute.
        error: what was raised.
    """
    number, named = getattr(error, "errno", None) or 0, getattr(error, "filename", None)
    file = Path(os.fsdecode(named)).resolve() if isinstance(named, str | bytes) and named else None
    above, below = file is not None and folder.is_relative_to(file), file is not None and file.is_relative_to(folder)
    if number in _FULL:
        return number, folder if file is None or above or below else file
    if number and (above or (below and number in _CLOSED)):
        return number, folder
    if told := next((each for each in _FULL if os.strerror(each) in str(error)), 0):
        return told, folder
    # Torch's writer of checkpoints does not tell why it failed.
    if shutil.disk_usage(next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))).free < _NOTHING:
        return errno.ENOSPC, folder
    files = (path for path in folder.rglob("*") if path.is_file())
    most = _file_limit()
    return errno.EFBIG if most >= 0 and any(path.stat().st_size >= most for path in files) else 0, folder


def _file_limit() -> int:
    """Return the bytes that this process may write to a file; -1 where there is no limit."""
    return -1 if (soft := resource.getrlimit(resource.RLIMIT_FSIZE)[0]) == resource.RLIM_INFINITY else soft


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
