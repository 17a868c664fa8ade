"""Leases: who works at a folder that several processes or machines see, told by beats and not by clocks or locks.

A lease is a file `NAME-N`, and the highest N counts. Who takes it makes `NAME-(N + 1)` by a link, which one alone can,
on file servers too; it then beats: writes a growing number into its file, or at last that the lease is free. A holder
of the same machine is alive while its process is; one elsewhere, while its file changes by the observer's own watch. A
file goes only once a higher one is there, so no number is ever taken twice.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hpa_bench.errors import UserError
from hpa_bench.files import PARTIAL

SIZE = 512
"""Bytes of a lease's file, so that a beat is written in the place of the one before."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Pace:
    """How often holders beat, and when they are given up; in seconds."""

    beat: float = 5.0
    dead: float = 60.0
    """Without a change for so long, a holder on another machine is dead."""


PACE = Pace()


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says."""

    host: str
    machine: str
    """See `this_machine`."""
    pid: int
    started: str
    """When its process began, in the kernel's own count; tells it from a later one with its number."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it is of this machine, so that its process can be looked for."""
        return self.machine == this_machine()

    @property
    def is_alive(self) -> bool:
        """Whether its process is there; of use where `is_here`."""
        return _started(self.pid) == self.started


class InUse(UserError):
    """A lease has a live holder."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(f"in use by {holder}")
        self.holder = holder


@cache
def this_machine() -> str:
    """Return what tells this machine, since it was started, and this container from others."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def holder_of(name: Path, pace: Pace = PACE) -> Holder | None:
    """Return who holds a lease, at one look; None where it is free.

    Of a holder elsewhere the time of the last beat is compared with this machine's clock. A clock that is wrong makes
    it look dead: good enough for a word in a report, and never for taking the lease (see `Watch`).
    """
    number, text = _latest(name)
    if (holder := _parsed(text)) is None:
        return None
    if holder.is_here:
        return holder if holder.is_alive else None
    try:
        age = time.time() - _file(name, number).stat().st_mtime
    except OSError:
        return holder  # It has just gone to a next holder.
    return holder if age < pace.dead else None


class Watch:
    """Looks at a lease again and again, and so knows when its holder is dead.

    Args:
        name: of the lease.
        pace: as its holders'.
    """

    def __init__(self, name: Path, pace: Pace = PACE) -> None:
        self.name = name
        self.number = 0
        """The highest that was seen."""
        self.beats = False
        """Whether the holder has beaten since the first look."""
        self._pace = pace
        self._seen = ""
        self._since = 0.0

    def look(self) -> Holder | None:
        """Return who holds the lease, or None where nobody does, or a dead one."""
        number, text = _latest(self.name)
        if (number, text) != (self.number, self._seen):
            self.beats = number == self.number and bool(self._seen)
            self.number, self._seen, self._since = number, text, time.monotonic()
        if (holder := _parsed(text)) is None:
            return None
        if holder.is_here:
            return holder if holder.is_alive else None
        return holder if time.monotonic() - self._since < self._pace.dead else None


class Lease:
    """One process's hold on something.

    Args:
        name: the path that its files' names begin with.
        on_loss: called in another thread, once, when somebody else has taken it over: this process did not beat for
            so long that it was given up.
        pace: how often to beat.
    """

    def __init__(self, name: Path, on_loss: Callable[[], None] = lambda: None, pace: Pace = PACE) -> None:
        self.name = name
        self.pace = pace
        self.lost = False
        self._on_loss = on_loss
        self._number = 0
        self._file = -1
        self._beat = 0
        self._guard = threading.Lock()

    def take(self, watch: Watch | None = None) -> None:
        """Take the lease, and beat until it is released.

        Args:
            watch: what looked at it until now; without one, a holder elsewhere is looked at until it beats or is dead.

        Raises:
            InUse: it has a live holder.
            OSError: its file cannot be written.
        """
        patient = watch is None
        watch = watch or Watch(self.name, self.pace)
        self.name.parent.mkdir(parents=True, exist_ok=True)
        while True:
            holder = watch.look()
            if holder is not None and (holder.is_here or watch.beats or not patient):
                raise InUse(holder)
            if holder is None and self._made(watch.number + 1):
                _keep(self)
                return
            time.sleep(min(self.pace.beat / 2, 1.0) if holder else 0.01)

    def release(self) -> None:
        """Let others have it at once."""
        _held.discard(self)
        with self._guard:
            if self._file >= 0:
                with suppress(OSError):  # Its folder may be gone, or the disk.
                    os.pwrite(self._file, b"free".ljust(SIZE), 0)
                os.close(self._file)
                self._file = -1

    def renew(self) -> None:
        """Beat once, and see whether the lease is lost."""
        with self._guard:
            if self._file < 0 or self.lost:
                return
            self._beat += 1
            with suppress(OSError):  # The file server may be back at the next beat, or the file is another's by now.
                os.pwrite(self._file, self._text(), 0)
                os.fsync(self._file)
            with suppress(OSError):
                self.lost = max(_numbers(self.name), default=0) > self._number
        if self.lost:
            self._on_loss()

    def _made(self, number: int) -> bool:
        """Make the file of a number; False where another process was faster."""
        path = _file(self.name, number)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.pwrite(file, self._text(), 0)
            os.fsync(file)
            file = _linked(partial, path, file)
            # A number that was taken and gone already: a higher one is there then.
            if file >= 0 and max(_numbers(self.name), default=number) > number:
                path.unlink(missing_ok=True)
                os.close(file)
                file = -1
        finally:
            partial.unlink(missing_ok=True)
        self._file, self._number = file, number
        if file >= 0:
            for lower in _numbers(self.name):
                if lower < number:
                    _file(self.name, lower).unlink(missing_ok=True)
        return file >= 0

    def _text(self) -> bytes:
        holder = {"host": socket.gethostname(), "machine": this_machine(), "pid": os.getpid()}
        return json.dumps(holder | {"started": _started(os.getpid()), "beat": self._beat}).encode().ljust(SIZE)


def _linked(partial: Path, path: Path, file: int) -> int:
    """Give a file its final name, if nothing has it, and return it open; -1 where something has."""
    try:
        os.link(partial, path)
    except FileExistsError:
        # A server's answer may be lost, and the link be made all the same.
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(file)):
                return file
    except FileNotFoundError:  # Who holds the folder has swept it.
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            os.close(file)
            raise
        with suppress(FileExistsError):
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            os.pwrite(made, os.pread(file, SIZE, 0), 0)
            os.fsync(made)
            os.close(file)
            return made
    else:
        return file
    os.close(file)
    return -1


def _file(name: Path, number: int) -> Path:
    return name.with_name(f"{name.name}-{number}")


def _numbers(name: Path) -> list[int]:
    pattern = re.compile(rf"{re.escape(name.name)}-(\d{{1,18}})")
    try:
        return [int(found[1]) for entry in name.parent.iterdir() if (found := pattern.fullmatch(entry.name))]
    except FileNotFoundError:
        return []


def _latest(name: Path) -> tuple[int, str]:
    """Return the highest number and what its file says; "" where there is none."""
    while number := max(_numbers(name), default=0):
        with suppress(FileNotFoundError):  # Taken since then: there is a higher one.
            return number, _file(name, number).read_text(encoding="utf-8", errors="replace").strip()
    return 0, ""


def _parsed(text: str) -> Holder | None:
    """Return who a file names; None where it is free. One that is not whole is being written, by somebody unknown."""
    if text in ("", "free"):
        return None
    try:
        found: dict[str, Any] = json.loads(text)
        return Holder(str(found["host"]), str(found["machine"]), int(found["pid"]), str(found["started"]))
    except (ValueError, TypeError, KeyError):
        return Holder("an unknown machine", "", 0, "")


def _started(pid: int) -> str:
    """Return when a living process began; "" where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
        try:  # A system without /proc tells no more than that.
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "unknown"
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


_held: set[Lease] = set()
_keeper: threading.Thread | None = None
_starting = threading.Lock()
os.register_at_fork(after_in_child=_held.clear)


def _keep(lease: Lease) -> None:
    """Have a lease beat; one thread does it for all of this process."""
    global _keeper
    with _starting:
        _held.add(lease)
        if _keeper is None or not _keeper.is_alive():
            _keeper = threading.Thread(target=_beat_on, name="leases", daemon=True)
            _keeper.start()


def _beat_on() -> None:
    global _keeper
    while True:
        with _starting:
            if not _held:
                _keeper = None
                return
            wait = min(lease.pace.beat for lease in [*_held])
        time.sleep(wait)
        for lease in [*_held]:
            lease.renew()
