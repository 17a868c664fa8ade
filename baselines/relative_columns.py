"""`M = top p_l% of columns by ||D_:j|| / ||W0_:j||`, D = W1 - W0: HPA's control by relative change.

It keeps the columns that changed most for their size, and needs no Hessian and no data.
"""

from typing import ClassVar

import torch
from torch import Tensor

from hpa_bench import Need, StageContext
from hpa_bench.hpa import HPA, Layer, top_columns


class RelativeColumns(HPA):
    """HPA with the columns that W0 keeps chosen by the norm of their update over that of the column itself."""

    name: ClassVar[str] = "relative_columns"
    kind = "columns"
    needs: frozenset[Need] = frozenset()

    def choose_columns(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return the `layer.count` columns with the largest relative update; equal ones rank by column index.

        A column that was zero and changed comes before all others; one that was zero and stayed so, after them.
        """
        d = layer.update
        changed, was = (w.square().sum(0, dtype=torch.float64) for w in (d, layer.before.to(d.dtype)))
        return top_columns(torch.where(changed == 0, 0, changed / was), layer.count)
