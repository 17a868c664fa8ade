"""hpa-bench: continual visual instruction tuning of safety-aligned multimodal LLMs, evaluated first.

What stands here is the stable interface (docs/new-method.md): it stays where it is when modules move. A name is
imported when it is first asked for, so that `import hpa_bench` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpa_bench.api import run
    from hpa_bench.data.samples import Sample
    from hpa_bench.engines.base import Engine, EngineConfig, Request
    from hpa_bench.errors import UserError
    from hpa_bench.judges.base import Judge, JudgeConfig
    from hpa_bench.launchers.base import Job, Launcher, LauncherConfig
    from hpa_bench.machine.processes import processes, rank
    from hpa_bench.method import Method, MethodConfig, MethodKind, Need, StageContext
    from hpa_bench.models.activations import ActivationStream, load_moments, save_moments
    from hpa_bench.models.adapters import Factors, attach_lora, lora_factors
    from hpa_bench.models.config import LoRAConfig
    from hpa_bench.models.prompts import IGNORED, Batch, model_inputs
    from hpa_bench.models.weights import Checkpoint, Weights, load_into, unrounded
    from hpa_bench.results.runs import load_runs
    from hpa_bench.runner.events import Event, Observer
    from hpa_bench.tunable import Tunable

_HOME = {
    "IGNORED": "models.prompts",
    "ActivationStream": "models.activations",
    "Batch": "models.prompts",
    "Checkpoint": "models.weights",
    "Engine": "engines.base",
    "EngineConfig": "engines.base",
    "Event": "runner.events",
    "Factors": "models.adapters",
    "Job": "launchers.base",
    "Judge": "judges.base",
    "JudgeConfig": "judges.base",
    "Launcher": "launchers.base",
    "LauncherConfig": "launchers.base",
    "LoRAConfig": "models.config",
    "Method": "method",
    "MethodConfig": "method",
    "MethodKind": "method",
    "Need": "method",
    "Observer": "runner.events",
    "Request": "engines.base",
    "Sample": "data.samples",
    "StageContext": "method",
    "Tunable": "tunable",
    "UserError": "errors",
    "Weights": "models.weights",
    "attach_lora": "models.adapters",
    "load_into": "models.weights",
    "load_moments": "models.activations",
    "load_runs": "results.runs",
    "lora_factors": "models.adapters",
    "model_inputs": "models.prompts",
    "processes": "machine.processes",
    "rank": "machine.processes",
    "run": "api",
    "save_moments": "models.activations",
    "unrounded": "models.weights",
}
__all__ = [
    "IGNORED",
    "ActivationStream",
    "Batch",
    "Checkpoint",
    "Engine",
    "EngineConfig",
    "Event",
    "Factors",
    "Job",
    "Judge",
    "JudgeConfig",
    "Launcher",
    "LauncherConfig",
    "LoRAConfig",
    "Method",
    "MethodConfig",
    "MethodKind",
    "Need",
    "Observer",
    "Request",
    "Sample",
    "StageContext",
    "Tunable",
    "UserError",
    "Weights",
    "attach_lora",
    "load_into",
    "load_moments",
    "load_runs",
    "lora_factors",
    "model_inputs",
    "processes",
    "rank",
    "run",
    "save_moments",
    "unrounded",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
