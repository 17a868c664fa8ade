"""`eps_ij = (W0 - W1)_ij^2 / [H^-1]_jj`; S and T are the top k% of columns by its mean over rows: part 1 of HPA.

Focusing-based parameter partition: which columns matter to safety (H_s), which to the task (H_t). Weights are `[r, c]`
= `[out_features, in_features]`; W0 is the layer before the task, W1 after it.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from hpa_bench import UserError
from hpa_bench.hpa.inverse import inverse_diagonal


def update(before: Tensor, after: Tensor) -> Tensor:
    """Return D = W1 - W0 `[r, c]` in float32 or better."""
    exact = torch.promote_types(before.dtype, torch.float32)
    return after.to(exact) - before.to(exact)


def inverse_diagonals(moments: Mapping[str, Tensor], damping: float = 0.01) -> dict[str, Tensor]:
    """Return `inverse_diagonal` of each layer's H, computed once where layers share one tensor (q/k/v, gate/up).

    Raises:
        UserError: names the first layer whose H cannot be inverted.
    """
    done: dict[int, Tensor] = {}
    for name, h in moments.items():
        if id(h) not in done:
            try:
                done[id(h)] = inverse_diagonal(h, damping)
            except UserError as error:
                raise UserError(f"Layer {name!r}: {error}") from None
    return {name: done[id(h)] for name, h in moments.items()}


def mean_square(before: Tensor, after: Tensor) -> Tensor:
    """Return the mean over rows of `(W1 - W0)_ij^2`, `[c]` in float64.

    Args:
        before: W0 `[r, c]`.
        after: W1 `[r, c]`.

    Raises:
        UserError: shapes do not fit, or a weight is not finite.
    """
    if before.shape != after.shape:
        raise UserError(f"Shapes do not fit: W0 is {list(before.shape)} and W1 is {list(after.shape)}.")
    found = update(before, after).square_().mean(0, dtype=torch.float64)
    if not found.isfinite().all():
        raise UserError("The update W1 - W0 holds NaN or Inf, or squares to Inf.")
    return found


def column_scores(changes: Tensor, inverse: Tensor, saliency: Literal["divide", "multiply"] = "divide") -> Tensor:
    """Return a score per column: the mean over rows of `eps_ij = (W0 - W1)_ij^2 / [H^-1]_jj`.

    With diag(H_s^-1) this is eps_bar, with diag(H_t^-1) zeta_bar.

    Args:
        changes: what `mean_square` returned `[c]`.
        inverse: diag(H^-1) `[c]`.
        saliency: `divide` as above, after Optimal Brain Surgeon, or `multiply` by diag(H^-1) instead.

    Returns:
        `[c]`, float64.

    Raises:
        UserError: shapes do not fit.
    """
    if changes.shape != inverse.shape:
        raise UserError(f"Shapes do not fit: W0 and W1 have {len(changes)} columns, and H has {len(inverse)}.")
    return changes / inverse if saliency == "divide" else changes * inverse


def column_count(percent: float, columns: int) -> int:
    """Return how many of `columns` columns are `percent` percent, rounded as Python rounds; at most all."""
    return min(columns, round(percent / 100 * columns))


def top_columns(scores: Tensor, count: int, among: Tensor | None = None) -> Tensor:
    """Return the mask `[c]` of the `count` highest scores, among the columns of a mask if one is given.

    Equal scores rank by column index. Fewer are returned where `among` has fewer.
    """
    allowed = torch.ones_like(scores, dtype=torch.bool) if among is None else among
    order = scores.masked_fill(~allowed, -torch.inf).argsort(descending=True, stable=True)
    top = torch.zeros_like(allowed)
    top[order[:count]] = True
    return top & allowed


def largest_columns(update: Tensor, count: int) -> Tensor:
    """Return the mask `[c]` of the `count` columns of an update `[r, c]` with the largest norm.

    Equal norms rank by column index.
    """
    return top_columns(update.square().sum(0, dtype=torch.float64), count)


def focus(scores: Tensor, keep_percent: float, focus_factor: float = 2.0) -> Tensor:
    """Return the mask `[c]` of the top k% columns, k = focus_factor * p_l: S by eps_bar, T by zeta_bar."""
    return top_columns(scores, column_count(focus_factor * keep_percent, len(scores)))
