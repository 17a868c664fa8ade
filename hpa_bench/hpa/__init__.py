"""Harmonious Parameter Adaptation (Wang et al., arXiv 2511.20158): edit the merged weights once, with no training.

Part 1 is `partition`, part 2 `selection`, part 3 `adjustment`; `method` runs them over a model.
"""

from hpa_bench.hpa.adjustment import orthogonal_update
from hpa_bench.hpa.config import HPAConfig
from hpa_bench.hpa.inverse import LARGE, damped_cholesky, lower_inverse
from hpa_bench.hpa.method import HPA, Layer, adapt_layer
from hpa_bench.hpa.partition import largest_columns, top_columns
from hpa_bench.hpa.selection import keep_percent_at

__all__ = [
    "HPA",
    "LARGE",
    "HPAConfig",
    "Layer",
    "adapt_layer",
    "damped_cholesky",
    "keep_percent_at",
    "largest_columns",
    "lower_inverse",
    "orthogonal_update",
    "top_columns",
]
