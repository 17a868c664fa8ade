"""Optimal Brain Surgeon, column by column: give entries another value, and let the columns to the right make up for it.

With `U^T U = H^-1`, U upper triangular, `U_kk^2` is the k-th diagonal entry of the inverse of H without the columns
left of k, which are settled by then; the order of columns matters (Frantar and Alistarh, SparseGPT, ICML 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hpa_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    Choose = Callable[[slice, Tensor, Tensor], Tensor]


def inverse_factor(h: Tensor, damping: float = 0.01) -> Tensor:
    """Return U, upper triangular, `[c, c]` float64, with `U^T U = (H + lambda I)^-1`, lambda = damping * mean(diag H).

    Args:
        h: H `[c, c]`, symmetric; a dead column's diagonal 0 becomes 1.
        damping: `percdamp` of the authors' codes.

    Raises:
        UserError: H is not finite, or not positive definite.
    """
    import torch

    h = h.to(torch.float64, copy=True)
    diagonal = h.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += damping * diagonal.mean()
    factor, failed = torch.linalg.cholesky_ex(h)
    if failed or not h.isfinite().all():
        raise UserError(
            f"H, the second moments of the layer's calibration inputs, is not positive definite at damping {damping}:"
            " raise `damping`."
        )
    return torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)


def replace_entries(
    weight: Tensor, values: Tensor, u: Tensor, choose: Choose, block: int, step: int = 1, sign: int = 1
) -> Tensor:
    """Give chosen entries of a weight other values and compensate in the columns to the right.

    Within a block, columns go in steps: `E = (w - q) / U_kk`, `w_later <- w_later - sign * E U[step, later]`; after it,
    the columns of later blocks likewise.

    Args:
        weight: `[r, c]`.
        values: q, what chosen entries become, `[r, c]`.
        u: what `inverse_factor` returned.
        choose: given the block's columns, its weight as compensated so far `[r, b]` and `U_kk` `[b]`, returns the mask
            of the entries to replace, bool `[r, b]`.
        block: b, columns chosen at a time.
        step: columns replaced at a time; those of one step do not compensate each other.
        sign: 1 compensates; -1 does the opposite; 0 replaces only.

    Returns:
        `[r, c]`, float64; where nothing is chosen, `weight` itself.
    """
    w, values = weight.double().clone(), values.double()
    for start in range(0, w.shape[1], block):
        columns = slice(start, min(start + block, w.shape[1]))
        chosen = choose(columns, w[:, columns].clone(), u.diagonal()[columns])
        for first in range(start, columns.stop, step):
            some = slice(first, min(first + step, columns.stop))
            replaced = w[:, some].where(~chosen[:, some.start - start : some.stop - start], values[:, some])
            error = (w[:, some] - replaced) / u.diagonal()[some]
            w[:, some] = replaced
            if sign:
                w[:, some.stop :] -= sign * error @ u[some, some.stop :]
    return w
