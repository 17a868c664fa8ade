"""The processes of one run, joined: what they send each other, and how all end when one fails.

In one process nothing here does anything.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import distributed

from hpa_bench.errors import UserError
from hpa_bench.machine.processes import is_main, leave_it_to_the_first, processes
from hpa_bench.redact import clean

T = TypeVar("T")

POLL_SECONDS = 0.5
"""How often a process looks whether another has failed."""
WAIT = timedelta(days=7)
"""How long processes wait for each other: the first may take hours to edit a large model while the others wait."""

_group: Any = None
"""Carries Python objects between the processes: on the CPU, whatever carries gradients."""


def barrier() -> None:
    """Wait until every process is here."""
    from_main(None)


def from_main(value: T) -> T:
    """Return the first process's value in every process."""
    if processes() == 1:
        return value
    # A broadcast alone would let the first go on before the others have come.
    distributed.barrier(group=_group)
    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_group)
    return values[0]


def gather_in_order(mine: Sequence[T]) -> list[T]:
    """Return the items of all processes, given in each those at `rank(), rank() + processes(), ...`."""
    if processes() == 1:
        return list(mine)
    shares: list[Sequence[T]] = [()] * processes()
    distributed.all_gather_object(shares, mine, group=_group)
    missing = object()
    return [item for item in chain.from_iterable(zip_longest(*shares, fillvalue=missing)) if item is not missing]  # type: ignore[misc]


@contextmanager
def together(device: str, record: Callable[[str], None]) -> Iterator[str]:
    """Join the other processes; when one fails, all end, and the first says why.

    Args:
        device: "cpu" or "cuda".
        record: called in the first process with the reason, when another has failed.

    Yields:
        The device of this process.
    """
    if processes() == 1:
        yield device
        return
    watch = _Watch(record)
    own = _join(device)
    try:
        yield own
        barrier()
    except Exception as error:
        watch.fail(error)
        raise
    finally:
        watch.stop()


def _join(device: str) -> str:
    """Start torch.distributed as Trainer expects it, once, and return this process's device."""
    global _group
    here = int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cpu" and here >= torch.cuda.device_count():
        raise UserError(
            f"More processes than GPUs on this machine ({torch.cuda.device_count()}): start one process a GPU"
            f" (accelerate launch --num_processes {torch.cuda.device_count()})."
        )
    state = PartialState(cpu=device == "cpu")
    if _group is None:
        _group = distributed.new_group(backend="gloo", timeout=WAIT)
        atexit.register(distributed.destroy_process_group)
    return "cpu" if device == "cpu" else str(state.device)


class _Watch:
    """Ends this process once another has failed, even where it waits for that one inside a collective operation."""

    def __init__(self, record: Callable[[str], None]) -> None:
        self._record = record
        self._over = threading.Event()
        self._ending = threading.Lock()
        # The store by which the processes found each other; over a connection of its own, since a thread uses it.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        found = distributed.TCPStore(address, port, is_master=False, wait_for_workers=False)
        self._store = distributed.PrefixStore("hpa-bench", found)
        threading.Thread(target=self._watch, daemon=True).start()

    def fail(self, error: Exception) -> None:
        """Let the other processes know."""
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if is_main():
            # Waits for good where another process's failure is already being told.
            with self._ending:
                self._over.set()
        elif not isinstance(error, UserError):
            traceback.print_exc()
        self._store.set("failed", reason)
        leave_it_to_the_first()

    def stop(self) -> None:
        """Look no longer."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            try:
                reason = self._store.get("failed").decode() if self._store.check(["failed"]) else None
            except RuntimeError:
                os._exit(1)  # The launcher is gone, and with it whoever would end this process.
            if reason is not None:
                self._end(reason)

    def _end(self, reason: str) -> None:
        with self._ending:
            if self._over.is_set():
                return
            leave_it_to_the_first()
            if is_main():
                self._record(reason)
                print(f"Error: {clean(reason)}", file=sys.stderr, flush=True)
            os._exit(2)
