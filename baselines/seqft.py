"""Sequential fine-tuning: the lower reference of continual learning, and the paper's SeqFT row (arXiv 2511.20158)."""

from typing import ClassVar

from hpa_bench.method import Method


class SeqFT(Method):
    """Tune on one task after another and do nothing about forgetting: every hook is the base class's."""

    name: ClassVar[str] = "seqft"
