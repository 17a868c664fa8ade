"""Stopping: the first signal ends what runs so that it can go on, a second one ends the process at once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux alone has it. Found here: after a fork it may be too late.
_SHOW_CURSOR = "\x1b[?25h"
_DIES_WITH_PARENT = (
    "import ctypes, os, signal, sys\n"
    "set = getattr(ctypes.CDLL(None), 'prctl', None)\n"
    "set and set(1, signal.SIGKILL)\n"  # PR_SET_PDEATHSIG, which lasts over exec.
    "os.getppid() == int(sys.argv[1]) or os._exit(1)\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)


class Stopped(BaseException):
    """Somebody has asked this command to stop; no `KeyboardInterrupt`, which Typer takes for its own.

    Args:
        number: of the signal.
        done: how far it has come, as in "41 of 69 done"; may be empty.
    """

    def __init__(self, number: int, done: str = "") -> None:
        super().__init__(number)
        self.number = number
        self.done = done


class Asked:
    """Whether somebody has asked to stop, and by which signal."""

    number: int | None = None


@contextmanager
def stops_raised() -> Iterator[None]:
    """Raise `Stopped` in the main thread at the first signal.

    A signal that is ignored, as by `nohup`, stays so.
    """

    def stop(number: int) -> None:
        raise Stopped(number)

    with _handled(stop):
        yield


@contextmanager
def stops_noted() -> Iterator[Asked]:
    """Only note the first signal, for a loop that looks."""
    asked = Asked()

    def note(number: int) -> None:
        asked.number = number

    with _handled(note):
        yield asked


@contextmanager
def _handled(first: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread choose.
        yield
        return
    before: dict[signal.Signals, Any] = {}
    came = False

    def handle(number: int, _: Any) -> None:
        nonlocal came
        came = True
        for other in before:
            signal.signal(other, _at_once)
        first(number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        # After the first, whatever still has to end is ended at once by a second, also where this was nested.
        if not came:
            for number, handler in before.items():
                signal.signal(number, handler)


def _at_once(number: int, _: Any) -> None:
    end_by(number)


def end_by(number: int) -> NoReturn:
    """End this process as a signal does that nobody handles, so that whoever started it knows.

    Args:
        number: of the signal; SIGINT ends with exit status 130, as shells have it.
    """
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    if number == signal.SIGINT:
        os._exit(130)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def dying_with_this(command: list[str]) -> list[str]:
    """Return a command whose process the kernel kills when this one ends, however it ends (on Linux).

    Its runs lose nothing by that, and none is left behind by a comparison that is killed.
    """
    return [sys.executable, "-S", "-E", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]


def die_with(parent: int) -> None:
    """Let the kernel kill this process, newly forked, when its parent ends (on Linux).

    Args:
        parent: the number of the process that forked it; where that is gone by now, this one ends at once.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
