"""`theta_t = theta_0`: the aligned model, never tuned, the paper's zero-shot row (arXiv 2511.20158)."""

from collections.abc import Sequence
from typing import ClassVar

from hpa_bench import Method


class ZeroShot(Method):
    """Train no stage: what is scored is stage 0, the aligned model itself."""

    name: ClassVar[str] = "zero_shot"
    kind = "reference"

    def curriculum(self, tasks: Sequence[str]) -> Sequence[Sequence[str]]:
        """Return no stage."""
        return []
