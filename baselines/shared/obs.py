"""`E = (w_k - q_k) / U_kk`, `w_later <- w_later - E U[k, later]`: Optimal Brain Surgeon, column by column.

Entries get another value, and the columns to the right make up for it. With `U^T U = H^-1`, U upper triangular,
`U_kk^2` is the k-th diagonal entry of the inverse of H without the columns left of k, which are settled by then; the
order of columns matters (Frantar and Alistarh, SparseGPT, ICML 2023).
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from hpa_bench import UserError
from hpa_bench.hpa import LARGE, damped_cholesky, lower_inverse

Choose = Callable[[slice, Tensor, Tensor], Tensor]
"""Given a block's columns, its weight `[r, b]` and `U_kk` `[b]`, returns the entries to replace, bool `[r, b]`."""


def inverse_factor(h: Tensor, damping: float = 0.01) -> Tensor:
    """Return U, upper triangular, `[c, c]` float64, with `U^T U = (H + lambda I)^-1`, lambda = damping * mean(diag H).

    Args:
        h: H `[c, c]`, symmetric; a dead column's diagonal 0 becomes 1.
        damping: `percdamp` of the authors' codes.

    Raises:
        UserError: H is not finite, or not positive definite.
    """
    if len(h) < LARGE:
        return torch.linalg.cholesky(torch.cholesky_inverse(damped_cholesky(h, damping)), upper=True)
    # L^-1 of H with its rows and columns in reverse, reversed itself: a third of the work.
    return lower_inverse(h.flip(0, 1), damping).flip(0, 1)


def inverse_factors(moments: Mapping[str, Tensor], damping: float = 0.01) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and U of each layer of a block, computed once where layers share one H (q/k/v, gate/up).

    Args:
        moments: H by module name.
        damping: see `inverse_factor`.

    Raises:
        UserError: names the first layer whose H cannot be inverted.
    """
    found: dict[int, Tensor] = {}
    for name, h in moments.items():
        if id(h) not in found:
            try:
                found[id(h)] = inverse_factor(h, damping)
            except UserError as error:
                raise UserError(f"Layer {name!r}: {error}") from None
        yield name, found[id(h)]


def replace_entries(
    weight: Tensor, values: Tensor, u: Tensor, choose: Choose, block: int, step: int = 1, sign: int = 1
) -> Tensor:
    """Give chosen entries of a weight other values and compensate in the columns to the right.

    Columns go in steps, `E = (w - q) / U_kk`, `w_later <- w_later - sign * E U[step, later]`, up to the block's end;
    the columns of later blocks get the sum of its steps at once: the same, and far less to read and write.

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
        ours, wanted, u_ours = w[:, columns], values[:, columns], u[columns, columns]
        chosen = choose(columns, ours.clone(), u_ours.diagonal())
        if sign:
            of_chosen = chosen / u_ours.diagonal()
            for first in range(0, ours.shape[1] - step, step):
                some, later = slice(first, first + step), slice(first + step, None)
                error = (ours[:, some] - wanted[:, some]) * of_chosen[:, some]
                ours[:, later].addmm_(error, u_ours[some, later], alpha=-sign)
            w[:, columns.stop :].addmm_((ours - wanted) * of_chosen, u[columns, columns.stop :], alpha=-sign)
        ours.copy_(ours.where(~chosen, wanted))
    return w
