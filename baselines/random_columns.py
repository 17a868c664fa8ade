"""`M = columns at random`, as many as HPA keeps, or of as large an update: HPA's control.

What HPA has beside it is the worth of HPA's choice: the keep rate and the orthogonal step are the same.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from hpa_bench import MethodConfig, Need, StageContext
from hpa_bench.hpa import HPA, HPAConfig, Layer


class RandomColumnsConfig(HPAConfig):
    """HPA's hyper-parameters, and what the random choice matches."""

    match: Literal["columns", "norm"] = "columns"
    """`columns`: as many columns as HPA keeps, which needs no calibration. `norm`: random columns until as much of the
    update's squared norm is reverted as HPA's own choice reverts (HPA prefers columns with large updates, so that equal
    counts do not undo equally much)."""


class RandomColumns(HPA):
    """HPA with the columns that W0 keeps drawn at random; the keep rate and the orthogonal step are HPA's."""

    name: ClassVar[str] = "random_columns"
    kind = "columns"
    Config: ClassVar[type[MethodConfig]] = RandomColumnsConfig

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Nothing to match the count of columns; what HPA needs to match the norm that it reverts."""
        return HPA.needs if self.config.match == "norm" else frozenset()

    def choose_columns(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return columns in a random order of the layer's own, up to HPA's count or norm."""
        norms = layer.update.square().sum(0, dtype=torch.float64)
        order = torch.randperm(len(norms), generator=ctx.generator(f"{self.name}/{layer.name}")).to(norms.device)
        if self.config.match == "columns":
            chosen = order[: layer.count]
        else:
            reverted_before = norms[order].cumsum(0) - norms[order]
            chosen = order[reverted_before < norms[super().choose_columns(layer, ctx)].sum()]
        return torch.zeros_like(norms, dtype=torch.bool).index_fill(0, chosen, True)
