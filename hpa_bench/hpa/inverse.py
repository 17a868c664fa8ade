"""diag(H^-1) of the damped second moments H of a layer's inputs: `sum_i (L^-1)_ij^2`, where `H = L L^T`."""

import torch
from torch import Tensor

from hpa_bench import UserError

LARGE = 1024
"""Columns from which on an H is inverted by matrix products; below, digits are those of published results."""
LAPACK = 256
"""Columns of a diagonal block that is left to LAPACK, and of a triangle whose zeros are multiplied along."""


def damped(h: Tensor, damping: float = 0.01) -> Tensor:
    """Return `H + lambda I`, lambda = damping * mean(diag H), `[c, c]` in float64.

    A dead column's diagonal 0 becomes 1 first. In float64, since damping bounds the condition number of H only by
    1 + c / damping.

    Args:
        h: `[c, c]` = 2 X^T X / n, symmetric, undamped, any floating dtype.
        damping: fraction of the mean of the diagonal.

    Raises:
        UserError: H is not a square matrix, or not finite.
    """
    if h.ndim != 2 or h.shape[0] != h.shape[1]:
        raise UserError(f"H must be [c, c], the second moments of a layer's inputs, but has shape {list(h.shape)}.")
    h = h.to(torch.float64, copy=True)
    diagonal = h.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += damping * diagonal.mean()
    if not h.sum().isfinite():  # isfinite() of all of it takes as much memory again, and a sum of float64 none.
        raise UserError("H, the second moments of the layer's calibration inputs, holds NaN or Inf.")
    return h


def damped_cholesky(h: Tensor, damping: float = 0.01) -> Tensor:
    """Return L, lower triangular, with `L L^T = H + lambda I`, `[c, c]` in float64.

    Arguments are those of `damped`.

    Raises:
        UserError: H is not a square matrix, not finite, or not positive definite.
    """
    factor, failed = torch.linalg.cholesky_ex(damped(h, damping))
    if failed:
        raise _indefinite(damping)
    return factor


def lower_inverse(h: Tensor, damping: float = 0.01) -> Tensor:
    """Return L^-1 for that L, `[c, c]` in float64; arguments and errors are those of `damped_cholesky`.

    By matrix products, which a processor does two to three times as fast as LAPACK's own routines do it.
    """
    factor = damped(h, damping)
    if not _invert(factor):
        raise _indefinite(damping)
    return factor


def inverse_diagonal(h: Tensor, damping: float = 0.01) -> Tensor:
    """Return diag((H + lambda I)^-1) `[c]`, float64; arguments and errors are those of `damped_cholesky`."""
    if len(h) < LARGE:
        return torch.cholesky_inverse(damped_cholesky(h, damping)).diagonal().clone()
    return lower_inverse(h, damping).square_().sum(0)


def _indefinite(damping: float) -> UserError:
    return UserError(
        f"H, the second moments of the layer's calibration inputs, is not positive definite at damping {damping}:"
        " raise `damping`."
    )


def _invert(h: Tensor) -> bool:
    """Put L^-1, lower triangular, in the place of `H = L L^T`, halving H: `[[X1, 0], [-X2 L21 X1, X2]]`.

    Args:
        h: `[c, c]` float64, symmetric; only its lower triangle is read.

    Returns:
        Whether H is positive definite; where it is not, nothing that is in its place means anything.
    """
    columns = len(h)
    if columns <= LAPACK:
        factor, failed = torch.linalg.cholesky_ex(h)
        identity = torch.eye(columns, dtype=h.dtype, device=h.device)
        h.copy_(torch.linalg.solve_triangular(factor, identity, upper=False))
        return not failed
    half = _half(columns)
    h[:half, half:] = 0
    first, below, second = h[:half, :half], h[half:, :half], h[half:, half:]
    if not _invert(first):
        return False
    factor = torch.empty_like(below)
    _times_upper(below, first.T, factor)  # L21 = H21 L11^-T
    _subtract_square(second, factor)
    if not _invert(second):
        return False
    product = torch.empty_like(factor)
    _times_lower(factor, first, product)
    _lower_times(second, product, below)
    below.neg_()
    return True


def _half(columns: int) -> int:
    """Return where to cut: near the middle, at a multiple of what vector registers and tiles hold."""
    return (columns // 2 + 31) // 32 * 32


def _lower_times(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write A B, A lower triangular."""
    if len(a) <= LAPACK:
        torch.mm(a, b, out=out)
        return
    half = _half(len(a))
    _lower_times(a[:half, :half], b[:half], out[:half])
    _lower_times(a[half:, half:], b[half:], out[half:])
    out[half:].addmm_(a[half:, :half], b[:half])


def _times_lower(b: Tensor, a: Tensor, out: Tensor) -> None:
    """Write B A, A lower triangular."""
    if len(a) <= LAPACK:
        torch.mm(b, a, out=out)
        return
    half = _half(len(a))
    _times_lower(b[:, :half], a[:half, :half], out[:, :half])
    _times_lower(b[:, half:], a[half:, half:], out[:, half:])
    out[:, :half].addmm_(b[:, half:], a[half:, :half])


def _times_upper(b: Tensor, a: Tensor, out: Tensor) -> None:
    """Write B A, A upper triangular."""
    if len(a) <= LAPACK:
        torch.mm(b, a, out=out)
        return
    half = _half(len(a))
    _times_upper(b[:, :half], a[:half, :half], out[:, :half])
    _times_upper(b[:, half:], a[half:, half:], out[:, half:])
    out[:, half:].addmm_(b[:, :half], a[:half, half:])


def _subtract_square(a: Tensor, x: Tensor) -> None:
    """Subtract X X^T from the lower triangle of A; beyond it A then means nothing."""
    if len(a) <= LAPACK:
        a.addmm_(x, x.T, alpha=-1)
        return
    half = _half(len(a))
    _subtract_square(a[:half, :half], x[:half])
    _subtract_square(a[half:, half:], x[half:])
    a[half:, :half].addmm_(x[half:], x[:half].T, alpha=-1)
