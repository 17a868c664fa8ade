"""`B <- P B` where `cos(vec(P B A), vec(B A))` is low, P onto V = theta_0 - theta_unaligned: SafeLoRA.

A and the layers that alignment left alone stay as they are; V is the same in every stage. Hsu et al., "Safe LoRA: The
Silver Lining of Reducing Safety Risks when Fine-tuning Large Language Models" (NeurIPS 2024); official code:
IBM/SafeLoRA.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hpa_bench import Factors, Method, MethodConfig, Need, StageContext, Tunable, lora_factors
from hpa_bench.baselines.shared.task_vectors import alignment_vector, check_alignment


class SafeLoRAConfig(MethodConfig):
    """What an adapter is projected by, and which adapters are."""

    projector: Literal["fast", "exact", "normalised"] = "fast"
    """P, given V `[out, in]`, what alignment added to the layer. `fast`: V V^T / ||V||_F, the paper's approximation and
    all that the official code has; it scales with V, so that a light alignment shrinks the update and a heavy one
    blows it up. `exact`: V (V^T V)^+ V^T, the paper's projector onto V's columns; the identity where V has full row
    rank. `normalised`: V V^T / ||V||_F^2, which does not depend on V's scale and is `exact` where V has rank 1."""
    select: Literal["share", "threshold"] = "share"
    """Which adapters are projected: the `share` least aligned, or all whose cosine is at most `threshold`."""
    share: Annotated[float, Tunable(0.02, 1, log=True)] = Field(10 / 224, ge=0, le=1)
    """Of the adapters (single matrices, not decoder blocks), those projected under `share`, rounded, at least one, and
    all that tie with the last. [choice] The official code has a number, 10, of the 224 matrices of a 7B model. 0 is
    `seqft`."""
    threshold: float = Field(0.5, ge=-1, le=1)
    """The cosine under `threshold` (official code: 0.5). -1 is `seqft`; 1 projects every adapter whose layer alignment
    changed."""


class SafeLoRA(Method):
    """Project adapters that leave the subspace of safety alignment onto it before they are merged."""

    name: ClassVar[str] = "safelora"
    kind = "weights"
    Config: ClassVar[type[MethodConfig]] = SafeLoRAConfig
    needs: frozenset[Need] = frozenset({"unaligned_model"})

    def start(self, ctx: StageContext) -> None:
        """Check that the unaligned model is the one that was aligned."""
        check_alignment(ctx, (f"{layer}.weight" for layer in ctx.linear_layers))

    def edit_adapter(self, model: nn.Module, ctx: StageContext) -> None:
        """Replace B in the chosen adapters."""
        found: list[tuple[float, Factors, Tensor]] = []
        with torch.no_grad():
            for factors in lora_factors(model):
                v = alignment_vector(ctx, f"{factors.name}.weight")
                if v.any() and factors.b.any():
                    projected = project(v, factors.b.to(v), self.config.projector)
                    found.append((cosine(projected, factors), factors, projected.to(factors.b)))
            limit = self.config.threshold
            if self.config.select == "share":
                lowest = sorted(cos for cos, _, _ in found)[: self._count(len(ctx.linear_layers))]
                limit = lowest[-1] if lowest else -1.0
            for cos, factors, projected in found:
                if cos <= limit:
                    factors.b.copy_(projected)

    def _count(self, adapters: int) -> int:
        """Return how many adapters the share is: at least one, unless it is 0."""
        return max(1, round(self.config.share * adapters)) if self.config.share else 0


def project(v: Tensor, b: Tensor, projector: str = "fast") -> Tensor:
    """Return P B without forming P.

    Args:
        v: V `[o, i]`, not 0.
        b: B `[o, r]` in V's dtype.
        projector: one of `SafeLoRAConfig.projector`.
    """
    if projector == "exact":
        u, s, _ = torch.linalg.svd(v, full_matrices=False)
        u = u[:, s > s[0] * max(v.shape) * torch.finfo(v.dtype).eps]
        return u @ (u.T @ b)
    norm = v.norm() if projector == "fast" else v.norm() ** 2
    return v @ (v.T @ b) / norm


def cosine(projected: Tensor, factors: Factors) -> float:
    """Return cos(vec(P B A), vec(B A)), rounded to 5 digits as the official code does; 0 where P B A is 0.

    From `r x r` products alone: `<X A, Y A>_F` is the sum of `X^T Y * A A^T`.
    """
    a, b = factors.a.to(projected), factors.b.to(projected)
    gram = a @ a.T

    def inner(x: Tensor, y: Tensor) -> float:
        return float((x.T @ y * gram).sum())

    norms = (inner(projected, projected) * inner(b, b)) ** 0.5
    return round(inner(projected, b) / norms, 5) if norms > 0 else 0.0
