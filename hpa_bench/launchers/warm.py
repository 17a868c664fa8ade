"""Warm starts: processes of this package that are forked from one which has imported what they need, on Linux.

What is forked is what a start of Python would have made of the same command, but for the seconds that imports take. One
comparison has one code: a change of this package's files while a server is there reaches none of its processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from hpa_bench.machine.stopping import dying_with_this

PREFIX = [sys.executable, "-m", "hpa_bench"]
"""What begins the commands that can be started so."""
ANSWER_SECONDS = 60.0
"""How long a server that has imported all has for an answer, before it is given up."""
LOOK_SECONDS = 0.05
_MOST_BYTES = 2**16


class Server:
    """A process that others are forked from; it ends with this object, and with this process.

    Args:
        environment: of the server, and so of what is forked from it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "hpa_bench.launchers.warm_server", str(theirs.fileno())]
            self.process = subprocess.Popen(
                dying_with_this(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # What goes wrong here goes wrong in an ordinary start, and is told there.
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._socket = ours
        self._requests = 0
        self._codes: dict[int, int | None] = {}
        self.waiting: weakref.WeakSet[Process] = weakref.WeakSet()
        """What is to be forked from it."""
        self.reason = ""
        """Why nothing can be forked from it any more."""
        self.is_ready = False
        """Whether it has imported all."""
        self.close = weakref.finalize(self, _end, ours, self.process, os.getpid())

    def look(self) -> None:
        """Hear what it has said."""
        while not self.reason and self._hear(0.0):
            pass

    def fork(self, arguments: Sequence[str], stdin: int, output: int) -> tuple[int, int] | None:
        """Return the numbers of a new process and of the request for it; None where the server is gone.

        Args:
            arguments: of `hpa-bench`.
            stdin: the descriptor that is its standard input.
            output: that of its standard output and error.
        """
        self._requests = number = self._requests + 1
        request = json.dumps({"number": number, "arguments": [*arguments], "cwd": str(Path.cwd())}).encode()
        if not self.reason:
            try:
                socket.send_fds(self._socket, [request], [stdin, output, output])
            except OSError as error:
                self._give_up(f"it cannot be reached ({error})")
        until = time.monotonic() + ANSWER_SECONDS
        while not self.reason:
            if (said := self._hear(max(0.0, until - time.monotonic()))) is None:
                self._give_up(f"it has not answered for {ANSWER_SECONDS:g} s")
            elif "pid" in said:
                self._codes[number] = None
                return int(said["pid"]), number
        return None

    def is_idle(self) -> bool:
        """Whether all that was forked from it has ended, and nothing waits to be."""
        self.look()
        return None not in self._codes.values() and not self.waiting

    def code(self, number: int) -> int | None:
        """Return the exit status of the process of a request, as Popen has it; None while that lives."""
        self.look()
        if self._codes[number] is None and self.reason:
            self._codes[number] = -signal.SIGKILL  # By the kernel, as the server ended.
        return self._codes[number]

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        """Return the next that it says, an empty one where it is gone; None where it says nothing for so long."""
        try:
            self._socket.settimeout(seconds)
            message = self._socket.recv(_MOST_BYTES)
        except (BlockingIOError, TimeoutError):
            return None
        except OSError:
            message = b""
        if not message:
            self._give_up("it has ended")
            return {}
        said: dict[str, Any] = json.loads(message)
        if "ended" in said:
            self._codes[said["ended"]] = said["code"]
        elif "reason" in said:
            self._give_up(said["reason"])
        elif "ready" in said:
            self.is_ready = True
        return said

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self.close()


def _end(client: socket.socket, server: subprocess.Popen[bytes], owner: int) -> None:
    """End a server, and with it what was forked from it, unless this process is itself a fork of its owner."""
    client.close()
    if os.getpid() == owner:
        server.kill()
        server.wait()


class Process:
    """A process in a group of its own, forked from a server once that is there, or started where there is none.

    Args:
        command: what it runs.
        environment: of the process; that of the server, if there is one.
        stdin: its standard input.
        output: its standard output and error.
        server: None starts it at once.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdin: IO[bytes],
        output: IO[bytes],
        server: Server | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = environment
        self._files = [os.dup(file.fileno()) for file in (stdin, output)]
        self._server = server
        self._ended: Callable[[], int | None] = lambda: None
        self.pid: int | None = None
        """Its number, once it has begun."""
        self.returncode: int | None = None
        """As of Popen."""
        if server is not None:
            server.waiting.add(self)
        self.poll()

    def poll(self) -> int | None:
        """Return the exit status, below zero the number of the signal that ended it; None until it has ended."""
        if self.returncode is None:
            if self.pid is None:
                self._begin()
            self.returncode = self._ended()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within so many seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(self._command, timeout or 0.0)
            time.sleep(LOOK_SECONDS)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to its children; what has not begun never does."""
        if self.pid is None:
            self.returncode = -number if self.returncode is None else self.returncode
            self._close_files()
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _begin(self) -> None:
        stdin, output = self._files
        if (server := self._server) is not None:
            server.look()
            if not server.reason and not server.is_ready:
                return
            if (forked := server.fork(self._command[len(PREFIX) :], stdin, output)) is not None:
                self.pid, number = forked
                self._ended = lambda: server.code(number)
        if self.pid is None:
            if server is not None:
                server.waiting.discard(self)
            self._server = None
            popen = subprocess.Popen(
                dying_with_this(self._command),
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                process_group=0,  # Ctrl-C is for whoever started it, who ends it with all that it started.
            )
            self.pid, self._ended = popen.pid, popen.poll
        self._close_files()

    def _close_files(self) -> None:
        """Let go of what only a beginning needs."""
        if self._server is not None:
            self._server.waiting.discard(self)
        while self._files:
            os.close(self._files.pop())


class WarmStarts:
    """The servers of this process: one for each environment, started when something is to be forked from it.

    A server that is not in use gives way to one of another environment.
    """

    def __init__(self, worth: int = 2) -> None:
        self.worth = worth
        """From so many processes on, a server is worth its start."""
        self._servers: dict[tuple[tuple[str, str], ...], Server] = {}

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdin: IO[bytes],
        output: IO[bytes],
        count: int,
    ) -> Process:
        """Return a process that is forked, where it can be, and started otherwise; it may begin when it is polled.

        Args:
            command: as of `Process`, as are the others.
            environment: of the process.
            stdin: its standard input.
            output: its standard output and error.
            count: so many processes of this environment are to come; where there is a server already, it is taken.
        """
        return Process(command, environment, stdin, output, self._server(command, environment, count))

    def _server(self, command: Sequence[str], environment: Mapping[str, str], count: int) -> Server | None:
        if sys.platform != "linux" or list(command[: len(PREFIX)]) != PREFIX:
            return None
        key = tuple(sorted(environment.items()))
        if key not in self._servers and count >= self.worth:
            self.close_idle()  # Each holds what it has imported: half a gigabyte.
            self._servers[key] = Server(environment)
        return self._servers.get(key)

    def close_idle(self) -> None:
        """End the servers that have no process."""
        for key, server in list(self._servers.items()):
            if server.is_idle():
                server.close()
                del self._servers[key]


starts = WarmStarts()
"""Shared by all launchers of this process."""
