"""`M = top p_l% of columns by ||D_:j||`, D = W1 - W0: HPA's control that keeps the columns that changed most.

It needs no Hessian and no data.
"""

from typing import ClassVar

from torch import Tensor

from hpa_bench import Need, StageContext
from hpa_bench.hpa import HPA, Layer, largest_columns


class MagnitudeColumns(HPA):
    """HPA with the columns that W0 keeps chosen by the norm of their update alone, as many as HPA keeps."""

    name: ClassVar[str] = "magnitude_columns"
    kind = "columns"
    needs: frozenset[Need] = frozenset()

    def choose_columns(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return the `layer.count` columns with the largest update norm; equal norms rank by column index."""
        return largest_columns(layer.update, layer.count)
