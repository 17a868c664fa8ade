"""Harmonious Parameter Adaptation (Wang et al., arXiv 2511.20158): edit the merged weights once, with no training.

Part 1 is `partition`, part 2 `selection`, part 3 `adjustment`; `method` runs them over a model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpa_bench.hpa.adjustment import orthogonal_update
    from hpa_bench.hpa.config import HPAConfig
    from hpa_bench.hpa.method import HPA, Layer, adapt_layer
    from hpa_bench.hpa.partition import top_columns
    from hpa_bench.hpa.selection import keep_percent_at

__all__ = ["HPA", "HPAConfig", "Layer", "adapt_layer", "keep_percent_at", "orthogonal_update", "top_columns"]

_HOME = {
    "HPA": "method",
    "HPAConfig": "config",
    "Layer": "method",
    "adapt_layer": "method",
    "keep_percent_at": "selection",
    "orthogonal_update": "adjustment",
    "top_columns": "partition",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that naming the method costs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
