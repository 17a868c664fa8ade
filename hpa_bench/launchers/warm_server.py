"""The process that runs are forked from: it has imported what they need, and computes nothing.

`hpa_bench.launchers.warm` starts it and talks to it over a socket, a message a packet:

- from the server, once, `{"ready": true}`, or a reason why nothing can be forked from it;
- to the server, `{"number": 1, "arguments": [...], "cwd": "..."}` with the descriptors of standard input, output and
  error;
- from the server, `{"pid": 123}` for each of these, and `{"ended": 1, "code": 0}` whenever one has ended.

A run is what `python -m hpa_bench` is in a process of its own: it has that command's environment, which is the
server's, its descriptors, its signals and its process group, and ends as Python ends. The kernel kills it when the
server ends, and the server when whoever started it ends.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from hpa_bench.machine.imports import without_collections
from hpa_bench.machine.stopping import die_with

IMPORTS = ("hpa_bench.cli.run", "hpa_bench.runner.run")
"""What every run imports of this package, with all that it imports in turn. By name, since it lies above launchers."""
MOST_BYTES = 2**16
"""Of a message."""
SETTLE_SECONDS = 2.0
"""How long a thread that ends at a fork has for it."""
READY_FOR_FORKS = ("jemalloc_bg_thd",)
"""Threads by their names: pyarrow's jemalloc holds its locks over a fork, and begins its thread again in the child."""
GPUS = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
"""What a process has open that has used a GPU, which none that is forked from it could."""


def main(descriptor: int) -> None:
    """Import, then fork a process for each request; where this returns, it is in such a process, at its start.

    Args:
        descriptor: of a socket that keeps messages apart.
    """
    with socket.socket(fileno=descriptor) as client:
        preload(IMPORTS)
        reason = unfit()
        client.send(json.dumps({"reason": reason} if reason else {"ready": True}).encode())
        if reason:
            os._exit(1)
        _Server(client).serve()


def preload(names: Sequence[str]) -> None:
    """Import modules, and let garbage collections pass over all that came with them."""
    with without_collections():
        for name in names:
            # What is not there, or not in this version, a run imports for itself, or fails for want of it and says so.
            with suppress(ImportError):
                import_module(name)
    gc.freeze()


def unfit() -> str:
    """Return why nothing can be forked from this process; "" where it can."""
    used = [path for path in _open_files() if path.startswith(GPUS)]
    if used:
        return f"it has {used[0]} open"
    if not (trial := os.fork()):
        os._exit(0)
    os.waitpid(trial, 0)
    # Threads that know of forks, as OpenBLAS's, have ended by now and are started again where they are needed.
    until = time.monotonic() + SETTLE_SECONDS
    while (count := _threads()) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    return f"it has {count} threads" if count > 1 else ""


def _threads() -> int:
    """Return how many threads there are, but for those that may go on over a fork."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # One that has just ended.
            names.append(path.read_text(encoding="utf-8", errors="replace").strip())
    return sum(name not in READY_FOR_FORKS for name in names)


def _open_files() -> list[str]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # The one that lists the folder is closed by now.
            found.append(str(path.readlink()))
    return found


class _Server:
    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._pid = os.getpid()
        self._cwd = str(Path.cwd())
        self._numbers: dict[int, int] = {}
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)

    def serve(self) -> None:
        """Fork until nobody is there to ask for it, and end; return in each process that is forked."""
        before = signal.signal(signal.SIGCHLD, lambda *_: None), signal.set_wakeup_fd(self._wake)
        while True:
            ready, _, _ = select.select([self._client.fileno(), self._woken], [], [])
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, MOST_BYTES)
                self._tell_ended()
            if self._client.fileno() in ready:
                message, descriptors, _, _ = socket.recv_fds(self._client, MOST_BYTES, 3)
                if not message:
                    os._exit(0)
                request = json.loads(message)
                if not (pid := os.fork()):
                    signal.set_wakeup_fd(before[1])
                    signal.signal(signal.SIGCHLD, before[0])
                    return self._become(request, descriptors)
                with suppress(OSError):  # As the run itself does; whoever is first.
                    os.setpgid(pid, pid)
                for descriptor in descriptors:
                    os.close(descriptor)
                self._numbers[pid] = request["number"]
                self._tell(pid=pid)

    def _tell_ended(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._tell(ended=self._numbers.pop(ended[0]), code=os.waitstatus_to_exitcode(ended[1]))

    def _tell(self, **message: Any) -> None:
        try:
            self._client.send(json.dumps(message).encode())
        except OSError:
            os._exit(0)

    def _become(self, request: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Be the process that a request asks for, all but its code."""
        os.setpgid(0, 0)
        die_with(self._pid)
        for end in (self._woken, self._wake):
            os.close(end)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(request["cwd"])
        if sys.path[0] == self._cwd:  # Not so under PYTHONSAFEPATH.
            sys.path[0] = request["cwd"]
        sys.argv[1:] = request["arguments"]
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed()  # From the system, as at an import.


if __name__ == "__main__":
    main(int(sys.argv[1]))
    runpy.run_module("hpa_bench", run_name="__main__", alter_sys=True)
