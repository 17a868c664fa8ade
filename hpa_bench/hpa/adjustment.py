"""`W^ = M * W0 + (1 - M) * (W0 + D')`, D' being D without its component along W0: part 3 of HPA.

Orthogonal parameter adjustment: what the columns that are not kept become.
"""

import torch
from torch import Tensor

from hpa_bench.hpa.partition import update


def orthogonal_update(before: Tensor, after: Tensor) -> Tensor:
    """Return W~ = W0 + D', where `D' = D - (<D, W0>_F / ||W0||_F^2) W0` and D = W1 - W0.

    Computed as W1 minus the component along W0, in float32 or better, with inner products summed in float64; where D
    has no such component (or W0 is zero), W~ is W1 bit for bit.

    Args:
        before: W0 `[r, c]`.
        after: W1 `[r, c]`.

    Returns:
        `[r, c]` in float32 or better.
    """
    d = update(before, after)
    w0, w1 = before.to(d.dtype), after.to(d.dtype)
    # A zero W0 has inner product 0 with D: the smallest float64 in its place divides to 0.
    norm = w0.square().sum(dtype=torch.float64).clamp_min(torch.finfo(torch.float64).tiny)
    along = (d * w0).sum(dtype=torch.float64) / norm
    return torch.where(along == 0, w1, w1 - along * w0)


def adjust(before: Tensor, after: Tensor, kept: Tensor, orthogonal: bool = True) -> Tensor:
    """Return `W^ = M * W0 + (1 - M) * W~`, or `M * W0 + (1 - M) * W1` without the orthogonal step.

    Args:
        before: W0 `[r, c]`.
        after: W1 `[r, c]`.
        kept: the columns where M is 1, bool `[c]`.
        orthogonal: whether the update loses its component along W0.

    Returns:
        `[r, c]` in the dtype of `before`.
    """
    adjusted = orthogonal_update(before, after) if orthogonal else after
    return torch.where(kept, before, adjusted.to(before.dtype))
