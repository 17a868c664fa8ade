"""hpa-bench: continual visual instruction tuning of safety-aligned multimodal LLMs, evaluated first.

What stands here is the stable interface (docs/new-method.md): it stays where it is when modules move. A name is
imported when it is first asked for, so that `import hpa_bench` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpa_bench.api import run
    from hpa_bench.engines.base import Engine, Request
    from hpa_bench.errors import UserError
    from hpa_bench.judges.base import Judge, JudgeConfig
    from hpa_bench.method import Method, MethodConfig, StageContext
    from hpa_bench.models.activations import ActivationStream
    from hpa_bench.models.adapters import attach_lora, lora_factors
    from hpa_bench.models.config import LoRAConfig
    from hpa_bench.models.weights import load_into, unrounded
    from hpa_bench.results.runs import load_runs
    from hpa_bench.runner.events import Event, Observer

_HOME = {
    "ActivationStream": "models.activations",
    "Engine": "engines.base",
    "Event": "runner.events",
    "Judge": "judges.base",
    "JudgeConfig": "judges.base",
    "LoRAConfig": "models.config",
    "Method": "method",
    "MethodConfig": "method",
    "Observer": "runner.events",
    "Request": "engines.base",
    "StageContext": "method",
    "UserError": "errors",
    "attach_lora": "models.adapters",
    "load_into": "models.weights",
    "load_runs": "results.runs",
    "lora_factors": "models.adapters",
    "run": "api",
    "unrounded": "models.weights",
}
__all__ = [
    "ActivationStream",
    "Engine",
    "Event",
    "Judge",
    "JudgeConfig",
    "LoRAConfig",
    "Method",
    "MethodConfig",
    "Observer",
    "Request",
    "StageContext",
    "UserError",
    "attach_lora",
    "load_into",
    "load_runs",
    "lora_factors",
    "run",
    "unrounded",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
