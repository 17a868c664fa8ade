"""hpa-bench: continual visual instruction tuning of safety-aligned multimodal LLMs, evaluated first.

Public names, few and stable: `Method`, `run`, `load_runs`, `hpa_bench.hpa.adapt_layer` and
`hpa_bench.metrics.continual_metrics`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpa_bench.api import run
    from hpa_bench.method import LoRAConfig, Method, MethodConfig, StageContext
    from hpa_bench.results import load_runs

__all__ = ["LoRAConfig", "Method", "MethodConfig", "StageContext", "load_runs", "run"]

_HOME = {"run": "api", "load_runs": "results"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the command line must start fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'method')}"), name)
