"""`theta_t = argmin CE(D_t)`, started at theta_{t-1}: sequential fine-tuning, the paper's SeqFT (arXiv 2511.20158).

The lower reference of continual learning.
"""

from typing import ClassVar

from hpa_bench import Method


class SeqFT(Method):
    """Tune on one task after another and do nothing about forgetting: every hook is the base class's."""

    name: ClassVar[str] = "seqft"
    kind = "reference"
