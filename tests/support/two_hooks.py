"""A method as a stranger might write it: what it scores is made of what it hands on, which it reads again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from hpa_bench import Method, StageContext, Weights


class TwoHooks(Method):
    """Hand half of every change on; score all blocks but the last moved by the mean of the first weight handed on."""

    name: ClassVar[str] = "two_hooks"

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        for layer in ctx.linear_layers:
            yield f"{layer}.weight", (before[f"{layer}.weight"] + after[f"{layer}.weight"]) / 2

    def evaluated(self, handed_on: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        first = f"{ctx.linear_layers[0]}.weight"
        for layers in ctx.layers[:-1] if ctx.stage else ():
            for layer in layers:
                yield f"{layer}.weight", handed_on[f"{layer}.weight"] + handed_on[first].mean()
