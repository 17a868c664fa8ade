"""One fault at a time: spoil a thing, act as a user does, and say how it went."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.errors import UserError

LIMIT = 60.0
"""Seconds after which a case hangs."""


class Outcome(StrEnum):
    """How a case went; the last three are failures."""

    HANDLED = "handled"
    """The same result as without the fault, or one that says what is missing and is right in all that it holds."""
    SENTENCE = "sentence"
    """One sentence that names the thing, and nothing else."""
    SILENT = "silent"
    """Another result, without a word."""
    TRACEBACK = "traceback"
    """Any other exception, several lines, or a sentence that does not name the thing."""
    HANG = "hang"
    """No end within `LIMIT` seconds."""


FAILURES = (Outcome.SILENT, Outcome.TRACEBACK, Outcome.HANG)


class Found(NamedTuple):
    """How a case went, and what was said."""

    outcome: Outcome
    told: str = ""


class _TooLong(BaseException):
    """Raised in a case that hangs."""


def never(result: object) -> bool:
    """Return False: no result is right."""
    return False


def outcome(
    act: Callable[[], Any],
    names: Sequence[str],
    right: Callable[[Any], object] = never,
    limit: float = LIMIT,
) -> Found:
    """Take a case in this process.

    Args:
        act: what the user does; a `UserError` is what the user is told.
        names: of the thing that is at fault: the sentence has to hold one of them.
        right: whether a result is right all the same; by default none is.
        limit: seconds that it may take.
    """
    try:
        with _limited(limit):
            result = act()
            found = Found(Outcome.HANDLED) if right(result) else Found(Outcome.SILENT, f"gives {result!r}"[:500])
    except UserError as error:
        found = _told(str(error), names)
    except _TooLong:
        found = Found(Outcome.HANG, f"no end in {limit:g} s")
    except (Exception, SystemExit):
        found = Found(Outcome.TRACEBACK, traceback.format_exc(limit=-4))
    return found


def outcome_in_child(
    act: Callable[[], Any],
    names: Sequence[str],
    right: Callable[[Any], object] = never,
    limit: float = LIMIT,
) -> Found:
    """Take a case that may hang out of Python's reach, or end its process, in a process of its own.

    Args:
        act: as of `outcome`, as are the others; pickled, so a function of a module, or a `functools.partial` of one.
        names: as of `outcome`.
        right: as of `outcome`, and pickled too.
        limit: as of `outcome`.
    """
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=_answer, args=(there, act, names, right, limit))
    process.start()
    there.close()
    try:
        # A little more than the child's own limit, which says more.
        if not here.poll(limit + 5):
            return Found(Outcome.HANG, f"no end in {limit:g} s")
        return here.recv()
    except EOFError:
        process.join()
        return Found(Outcome.TRACEBACK, f"the process ended with exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()


def command(*arguments: str | Path) -> str:
    """Call `hpa-bench` in this process and return what it prints.

    Raises:
        UserError: with what it says, where it ends with exit code 1 or 2.
    """
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, SystemExit) and result.exit_code in (1, 2):
        raise UserError(" ".join(result.output.split()))
    if result.exception is not None:
        raise result.exception
    return result.output


def spoil(file: Path, fault: str, foreign: bytes = b"") -> None:
    """Do a fault to a file.

    Args:
        file: which is there and holds something.
        fault: one of `FILE_FAULTS`.
        foreign: of a file of the same name from elsewhere, for the fault of that name.
    """
    content = file.read_bytes()
    middle = len(content) // 2
    if fault == "absent":
        file.unlink()
        return
    file.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "one bit flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "another's": foreign,
        }[fault]
    )


FILE_FAULTS = ("absent", "empty", "cut", "one bit flipped", "another's")


VOLATILE = ("events.jsonl", "manifest.json", "cost.json", "DONE", "SEAL.json", "WHOLE")
"""Files of a run that hold times, or digests of such files; leases do, too."""
LEASES = (".lease-", ".claim-")


def contents(folder: Path) -> dict[str, bytes]:
    """Return what equal runs have alike: every file of a run but those of `VOLATILE`, by path in its folder."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    read = {name: path.read_bytes() for name, path in sorted(found.items()) if not _is_volatile(path.name)}
    # peft writes the set of adapted layers in an order that is each process's own.
    return {name: bytes(sorted(text)) if name.endswith("adapter_config.json") else text for name, text in read.items()}


def _is_volatile(name: str) -> bool:
    return name in VOLATILE or name.startswith(LEASES)


def _told(text: str, names: Sequence[str]) -> Found:
    if "\n" in text.strip() or "Traceback" in text:
        return Found(Outcome.TRACEBACK, f"is more than a sentence: {text}")
    if not any(name in text for name in names):
        return Found(Outcome.TRACEBACK, f"names none of {', '.join(names)}: {text}")
    return Found(Outcome.SENTENCE, text)


def _answer(pipe: Any, *case: Any) -> None:
    with tempfile.TemporaryFile("w") as sink:
        for stream in (1, 2):
            os.dup2(sink.fileno(), stream)
        pipe.send(outcome(*case))


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in this thread after so many seconds; pytest-timeout's own alarm goes on afterwards."""

    def late(*_: Any) -> None:
        raise _TooLong

    handler = signal.signal(signal.SIGALRM, late)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, handler)


processes = multiprocessing.get_context("forkserver")
"""Children are forked from a server that has imported everything and run nothing."""
processes.set_forkserver_preload(["pytest", "hpa_bench.runner.run", "hpa_bench.api", "tests.support.models", __name__])
