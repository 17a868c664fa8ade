"""A stranger's method: keep a share of every update."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor

from hpa_bench import Method, MethodConfig, StageContext


class HalfWayConfig(MethodConfig):
    """Hyper-parameters of HalfWay."""

    share: float = 0.5
    """Of the update that stays."""


class HalfWay(Method):
    """Keep a share of every update: W0 + share (W1 - W0)."""

    name: ClassVar[str] = "half_way"
    Config: ClassVar[type[MethodConfig]] = HalfWayConfig

    def adapt(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor], ctx: StageContext
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield every linear layer's weight, moved back towards what it was."""
        for block in ctx.layers:
            for layer in block:
                name = f"{layer}.weight"
                yield name, before[name] + self.config.share * (after[name] - before[name])
