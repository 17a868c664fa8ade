"""Matrix products of portable runs: by oneDNN, each element one sum in one order on every x86-64 processor with AVX2.

MKL promises equal digits to processors of several makers in one mode alone, which does without AVX and takes three
times as long as oneDNN. Held to AVX2 (`ONEDNN_MAX_CPU_ISA`), oneDNN adds an element's terms up in the order of k, by
fused multiply-adds, in blocks of 1024 terms that are added in their order. Its blocks of k are a constant and never
shared out among threads (`compute_blocking_heuristic_avx2_f32` in oneDNN's `brgemm_matmul_utils.cpp`). So neither
caches nor threads nor the rows that stand beside change a digit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

BLOCK = 1024
"""Terms of one block of a sum."""
_linear: Any = getattr(getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None)
"""oneDNN's `a @ b.T`; it copies an `a` that is not stored row by row, and reads `b` in either order, if without gaps:
of a part of a wider matrix it takes a thousand times as long (see `_dense`)."""


def served() -> bool:
    """Whether this torch has oneDNN's products, and they are those of this module's docstring: tried on a few."""
    if not (torch.backends.mkldnn.is_available() and _linear):
        return False
    generator = torch.Generator().manual_seed(0)
    for m, k, n in ((2, 1, 2), (1, 130, 33), (33, 130, 1), (64, BLOCK, 48), (37, 2 * BLOCK + 5, 19)):
        a, b = torch.randn(m, k, generator=generator), torch.randn(k, n, generator=generator)
        if not torch.equal(product(a, b), in_order(a, b)):
            return False
    return True


def in_order(a: Tensor, b: Tensor) -> Tensor:
    """Return `a @ b` by its definition, slowly: fused multiply-adds in the order of k, in blocks.

    Args:
        a: float32 `[m, k]`.
        b: float32 `[k, n]`.

    Returns:
        float32 `[m, n]`. A fused multiply-add is computed in float64, which holds a product of float32 exactly.
    """
    whole: Tensor | None = None
    for start in range(0, a.shape[1], BLOCK):
        block = a.new_zeros(a.shape[0], b.shape[1])
        for k in range(start, min(start + BLOCK, a.shape[1])):
            block = (block.double() + a[:, k, None].double() * b[None, k].double()).float()
        whole = block if whole is None else whole + block
    return a.new_zeros(a.shape[0], b.shape[1]) if whole is None else whole


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return `a @ b` by oneDNN; a single row or column goes as two, since oneDNN sums vectors in another order.

    Args:
        a: float32 `[m, k]` on a CPU, no dimension 0.
        b: float32 `[k, n]`, likewise.
    """
    m, n = a.shape[0], b.shape[1]
    if m == 1 or n == 1:
        rows = a.expand(2, -1).contiguous() if m == 1 else a
        columns = b.t().expand(2, -1).contiguous() if n == 1 else b.t()
        return _linear(rows, columns, None, "none", [], "")[:m, :n].contiguous()
    if a.stride(1) != 1 and (b.stride(0) == 1 or n < m):
        # The transposed product copies less, as that of a wide gradient with a narrow input.
        return _linear(b.t(), _dense(a), None, "none", [], "").t()
    return _linear(a, _dense(b.t()), None, "none", [], "")


def _dense(b: Tensor) -> Tensor:
    """Return a matrix stored without gaps, row by row or column by column: a copy where it is a part of a wider one."""
    return b if b.is_contiguous() or b.t().is_contiguous() else b.contiguous()


_in_force = False


def in_force() -> bool:
    """Whether torch's products are oneDNN's now."""
    return _in_force


@contextmanager
def chosen(numerics: str, device: str) -> Iterator[None]:
    """Let torch's float32 matrix products on a CPU be oneDNN's for a while, where a run is to be portable.

    These are `mm`, `addmm`, `addmm_`, and `bmm` of one right side: those of linear layers and of their gradients too.

    Args:
        numerics: of a suite, "portable" or "native".
        device: the torch device that the run takes.
    """
    global _in_force
    if numerics != "portable" or device != "cpu" or _in_force or not served():
        yield
        return
    mm, addmm, bmm = (torch.library.get_kernel(f"aten::{name}", "CPU") for name in ("mm", "addmm", "bmm"))

    def ours_mm(keys: Any, a: Tensor, b: Tensor) -> Tensor:
        return product(a, b) if _fit(a, b) else mm.call_boxed(keys, a, b)

    def ours_addmm(keys: Any, bias: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        if not _fit(a, b) or bias.dtype != torch.float32:
            return addmm.call_boxed(keys, bias, a, b, beta=beta, alpha=alpha)
        found = product(a, b)
        if alpha != 1:
            found.mul_(alpha)
        return found.add_(bias, alpha=beta) if beta else found

    def ours_addmm_(keys: Any, held: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        return held.copy_(ours_addmm(keys, held, a, b, beta=beta, alpha=alpha))

    def ours_bmm(keys: Any, a: Tensor, b: Tensor) -> Tensor:
        # As a linear layer does with a part of a wider input: the same weight for every row of the batch.
        if not _fit(a, b) or (len(a) > 1 and b.stride(0) != 0):
            return bmm.call_boxed(keys, a, b)
        return product(a.flatten(0, 1), b[0]).reshape(*a.shape[:2], b.shape[2])

    with warnings.catch_warnings(), torch.library._scoped_library("aten", "IMPL") as library:
        warnings.filterwarnings("ignore", message=r"(?s).*Overriding a previously registered kernel")
        library.impl("mm", ours_mm, "CPU", with_keyset=True)
        library.impl("addmm", ours_addmm, "CPU", with_keyset=True)
        library.impl("addmm_", ours_addmm_, "CPU", with_keyset=True)
        library.impl("bmm", ours_bmm, "CPU", with_keyset=True)
        _in_force = True
        try:
            yield
        finally:
            _in_force = False


def _fit(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype == torch.float32 and a.numel() > 0 < b.numel()
