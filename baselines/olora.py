"""`CE + lambda_1 sum |A_old A^T| + lambda_2 (||A||_F + ||B||_F)` over layers and earlier tasks: O-LoRA.

Wang et al., "Orthogonal Subspace Learning for Language Model Continual Learning" (Findings of EMNLP 2023). The code
keeps old adapters beside the model; they are linear, so merging them, as every method here does, gives the same
function. Their A are kept for the penalty.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hpa_bench import Batch, Method, MethodConfig, StageContext, Tunable, lora_factors


class OLoRAConfig(MethodConfig):
    """Weights and form of O-LoRA's penalties."""

    lambda_1: Annotated[float, Tunable(0.005, 5, log=True)] = Field(0.5, ge=0)
    """Of the orthogonality term: 0.5 in run_uie_lora.py (T5, rank 8); MCITlib's port to LLaVA uses 0.05. The term is a
    sum over layers and pairs of rows, so it depends on both."""
    lambda_2: float = Field(0.0, ge=0)
    """Of the Frobenius norms of A and B (code: 0 but for the 15-task order)."""
    form: Literal["l1", "squared"] = "l1"
    """`l1`: the code sums |(A_old A^T)_ab|. `squared`: the paper's equation sums its squares."""


class OLoRA(Method):
    """Push each task's adapter to be orthogonal to those of the tasks before."""

    name: ClassVar[str] = "olora"
    kind = "loss"
    Config: ClassVar[type[MethodConfig]] = OLoRAConfig

    def __init__(self, config: OLoRAConfig | None = None) -> None:
        super().__init__(config)
        self.old: dict[str, Tensor] = {}
        """A of all earlier tasks, one below the other `[sum of r, in_features]`, by layer."""

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return the penalty; only A of this stage gets a gradient from its first term."""
        terms = []
        for layer in lora_factors(model):
            if self.config.lambda_1 and layer.name in self.old:
                # Moved once, not in every step.
                self.old[layer.name] = self.old[layer.name].to(layer.a)
                overlap = self.old[layer.name] @ layer.a.T
                size = overlap.abs() if self.config.form == "l1" else overlap.square()
                terms.append(self.config.lambda_1 * size.sum())
            if self.config.lambda_2:
                terms.append(self.config.lambda_2 * (layer.a.norm() + layer.b.norm()))
        return sum(terms) if terms else None

    def edit_adapter(self, model: nn.Module, ctx: StageContext) -> None:
        """Remember this stage's A."""
        for layer in lora_factors(model):
            earlier = [self.old[layer.name].to(layer.a)] if layer.name in self.old else []
            self.old[layer.name] = torch.cat([*earlier, layer.a.detach()]).cpu()

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return A of all earlier tasks."""
        return self.old

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.old = dict(state)
