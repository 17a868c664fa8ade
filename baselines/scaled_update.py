"""`W0 + (1 - p_l) D`, p_l as a fraction: HPA's control that makes the whole update a little smaller.

Every column gives up the share that HPA takes from whole columns. What HPA has beside it is the worth of choosing
columns at all. D is the update W1 - W0, without its component along W0 where the orthogonal step is on.
"""

from typing import ClassVar

from torch import Tensor

from hpa_bench import Need, StageContext
from hpa_bench.hpa import HPA, Layer, orthogonal_update


class ScaledUpdate(HPA):
    """HPA with every column giving up the share that HPA takes from whole columns."""

    name: ClassVar[str] = "scaled_update"
    kind = "weights"
    needs: frozenset[Need] = frozenset()
    keeps_columns: ClassVar[bool] = False

    def edit(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return the weight with the scaled update, `[r, c]` in the dtype of W0."""
        w0 = layer.before
        target = orthogonal_update(w0, layer.after) if self.config.orthogonal else layer.after
        if layer.keep_percent == 0:
            return target.to(w0.dtype)
        exact = layer.update.dtype
        return (w0.to(exact) + (1 - layer.keep_percent / 100) * (target.to(exact) - w0.to(exact))).to(w0.dtype)
