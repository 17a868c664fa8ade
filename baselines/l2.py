"""`CE + lambda/2 ||Delta||_F^2` over all adapted layers, Delta = (alpha/r) B A, the stage's own update: L2.

The cheapest penalty on forgetting: EWC with every importance 1.
"""

from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from hpa_bench import Batch, Method, MethodConfig, Tunable, lora_factors


class L2Config(MethodConfig):
    """Hyper-parameters of L2."""

    strength: Annotated[float, Tunable(0.001, 10, log=True)] = Field(default=0.1, ge=0)
    """lambda. No source gives one for LoRA; it depends on the scale of the loss and of the update."""


class L2(Method):
    """Hold the weights near those of the model before the task, every one alike."""

    name: ClassVar[str] = "l2"
    kind = "loss"
    Config: ClassVar[type[MethodConfig]] = L2Config

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return the penalty by `||B A||_F^2 = tr((A A^T)(B^T B))`, which needs no dense update."""
        if self.config.strength == 0:
            return None
        squares = (f.scale**2 * ((f.a @ f.a.T) * (f.b.T @ f.b)).sum() for f in lora_factors(model))
        return self.config.strength / 2 * sum(squares)
