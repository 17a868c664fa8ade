"""Generation shared out among the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpa_bench.engines.base import Engine, Progress, Request
from hpa_bench.machine.group import gather_in_order
from hpa_bench.machine.processes import processes, rank

if TYPE_CHECKING:
    from hpa_bench.models.weights import Checkpoint, Weights


class ShardedEngine(Engine):
    """Generates every n-th request in each of n processes; all processes get all responses.

    Args:
        engine: what generates in this process; every process has one, with the same weights.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model = engine.model
        self.processor = engine.processor

    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order; every process must call this with the same requests."""
        mine = self.engine.generate(requests[rank() :: processes()], on_progress)
        return gather_in_order(mine)

    def load(self, checkpoint: Checkpoint, changes: Weights | None = None) -> None:
        """Let this process's engine take new weights; every process must take the same."""
        self.engine.load(checkpoint, changes)

    def release(self) -> None:
        """Let this process's engine leave the GPU to the model."""
        self.engine.release()

    def close(self) -> None:
        """End what this process's engine has started."""
        self.engine.close()
