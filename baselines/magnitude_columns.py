"""HPA's control: the columns that changed most go back, with no Hessian and no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hpa_bench.hpa import HPA, Layer
from hpa_bench.method import Need, StageContext

if TYPE_CHECKING:
    from torch import Tensor


class MagnitudeColumns(HPA):
    """HPA with the columns that W0 keeps chosen by the norm of their update alone, as many as HPA keeps."""

    name: ClassVar[str] = "magnitude_columns"
    needs: frozenset[Need] = frozenset()

    def choose_columns(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return the `layer.count` columns with the largest update norm; equal norms rank by column index."""
        import torch

        norms = layer.update.square().sum(0, dtype=torch.float64)
        largest = norms.argsort(descending=True, stable=True)[: layer.count]
        return torch.zeros_like(norms, dtype=torch.bool).index_fill(0, largest, True)
