"""A random LLaVA with a trained-looking adapter, for methods that look at its factors."""

from pathlib import Path
from typing import Any

import torch

from hpa_bench.method import Method, StageContext
from hpa_bench.models.adapters import lora_factors
from tests.support.stages import random_stage


def adapted_model(folder: Path, method: Method | None = None, seed: int = 0) -> tuple[Any, StageContext]:
    """Return a wrapped model whose B is not 0 any more, and its stage."""
    _, _, ctx = random_stage(folder)
    torch.manual_seed(seed)
    model = (method or Method()).wrap(ctx.model, ctx)
    with torch.no_grad():
        for layer in lora_factors(model):
            layer.b.normal_(std=0.1)
    return model, ctx
