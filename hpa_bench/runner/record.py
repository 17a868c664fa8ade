"""What a run notes of itself: what a method remembers, and what every step costs."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from hpa_bench.files import atomic
from hpa_bench.machine.device import explained_shortage
from hpa_bench.machine.processes import is_main
from hpa_bench.results.run_folder import StageFolder
from hpa_bench.results.seals import seal

if TYPE_CHECKING:
    from hpa_bench.method import Method

_STATE = "state.safetensors"


def save_state(method: Method, folder: Path) -> None:
    """Write what a method carries to the next step; a folder without a file where it carries nothing."""
    with atomic(folder) as partial:
        partial.mkdir()
        if state := dict(method.state_dict()):
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial / _STATE)
        seal(partial)


def load_state(method: Method, folder: Path) -> None:
    """Give a method back what `save_state` wrote."""
    file = folder / _STATE
    method.load_state_dict(load_file(file) if file.exists() else {})


class Costs:
    """Adds what a stage spends to its cost.json; only the first process writes.

    Args:
        stage: the stage's folder.
        device: the run's torch device.
    """

    def __init__(self, stage: StageFolder, device: str) -> None:
        self._stage = stage
        self._gpu = device.startswith("cuda")
        self._waited = 0.0
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()

    def add(self, **values: Any) -> None:
        """Note values, such as `steps`, in the place of earlier ones."""
        if is_main():
            self._stage.add_cost(**values)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of a block to a step's; a GPU that is full in it is one sentence."""
        started, waited = time.perf_counter(), self._waited
        with explained_shortage(f"step {step!r} of {self._stage.path.name}"):
            yield
        self.add(seconds={step: time.perf_counter() - started - (self._waited - waited)})

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the seconds of a block as no step's."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by step, as noted by now."""
        return dict(self._stage.cost.get("seconds", {}))

    def borrow(self, seconds: Mapping[str, float], peak: int) -> None:
        """Note what another run has spent on what this one takes from it, as if it were this one's; `shared` tells."""
        self.add(seconds=seconds, shared=seconds)
        self._note_peak(peak)

    def peak_memory(self) -> int:
        """Return the peak in bytes: of what torch holds on the GPU since the stage began, else of the process."""
        if self._gpu:
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def note_peak_memory(self) -> None:
        """Note that peak."""
        self._note_peak(self.peak_memory())

    def _note_peak(self, peak: int) -> None:
        if peak:
            self.add(peak_memory_bytes=max(peak, self._stage.cost.get("peak_memory_bytes", 0)))

    def note_state(self, *folders: Path) -> None:
        """Note the bytes that a method keeps in these folders."""
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        self.add(state_bytes=sum(file.stat().st_size for file in files))
