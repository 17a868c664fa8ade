"""HPA's control: the whole update a little smaller, so that what remains is the worth of choosing columns at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hpa_bench.hpa import HPA, Layer
from hpa_bench.method import Need, StageContext

if TYPE_CHECKING:
    from torch import Tensor


class ScaledUpdate(HPA):
    """`W0 + (1 - p_l) D`, p_l as a fraction: every column gives up the share that HPA takes from whole columns.

    D is the update W1 - W0, without its component along W0 where the orthogonal step is on.
    """

    name: ClassVar[str] = "scaled_update"
    needs: frozenset[Need] = frozenset()

    def edit(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return the weight with the scaled update, `[r, c]` in the dtype of W0."""
        from hpa_bench.hpa import orthogonal_update

        w0 = layer.before
        target = orthogonal_update(w0, layer.after) if self.config.orthogonal else layer.after
        if layer.keep_percent == 0:
            return target.to(w0.dtype)
        exact = layer.update.dtype
        return (w0.to(exact) + (1 - layer.keep_percent / 100) * (target.to(exact) - w0.to(exact))).to(w0.dtype)
