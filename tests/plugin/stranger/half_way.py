"""`W0 + share (W1 - W0)`: a stranger's method."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from hpa_bench import Method, MethodConfig, StageContext, Weights


class HalfWayConfig(MethodConfig):
    """Hyper-parameters of HalfWay."""

    share: float = 0.5
    """Of the update that stays."""


class HalfWay(Method):
    """Keep a share of every update."""

    name: ClassVar[str] = "half_way"
    Config: ClassVar[type[MethodConfig]] = HalfWayConfig

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield every linear layer's weight, moved back towards what it was."""
        for name in (f"{layer}.weight" for layer in ctx.linear_layers):
            yield name, before[name] + self.config.share * (after[name] - before[name])
