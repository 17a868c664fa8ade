"""`min CE(D_1 + ... + D_T)`, all tasks at once: the upper reference of continual learning (multi-task training)."""

from collections.abc import Sequence
from typing import ClassVar

from hpa_bench import Method


class Joint(Method):
    """Train one stage, on the samples of all tasks together."""

    name: ClassVar[str] = "joint"
    kind = "reference"

    def curriculum(self, tasks: Sequence[str]) -> Sequence[Sequence[str]]:
        """Return one stage with every task."""
        return [list(tasks)]
