"""A plugin that measures the noise of rounding: sequential tuning from initial values moved by 1e-7 of themselves.

`hpa-bench run --plugin scripts/noise_seqft.py --method noise_seqft --set repeat=1`. How far the results of several
repeats lie apart is what no comparison of methods on this suite can tell from chance.
"""

from typing import Any, ClassVar

import torch
from torch import nn

from hpa_bench import Method, MethodConfig, StageContext
from hpa_bench.seeds import derive_seed

SIZE = 1e-7


@torch.no_grad()
def disturb(parameters: list[torch.Tensor], generator: torch.Generator) -> None:
    """Multiply every value by 1 + 1e-7 or 1 - 1e-7, but move it by one unit in the last place at least; 0 stays."""
    for tensor in parameters:
        sign = torch.randint(0, 2, tensor.shape, generator=generator) * 2.0 - 1
        moved = tensor * (1 + SIZE * sign)
        least = torch.nextafter(tensor, tensor + sign * tensor.abs())
        tensor.copy_(torch.where(moved == tensor, least, moved))


class NoiseConfig(MethodConfig):
    """Which repeat."""

    repeat: int = 1
    """0 is `seqft` bit for bit."""


class NoiseSeqFT(Method):
    """Sequential fine-tuning whose adapters begin a rounding error beside those of `seqft`."""

    name: ClassVar[str] = "noise_seqft"
    Config: ClassVar[type[MethodConfig]] = NoiseConfig

    def wrap(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Return the model with a fresh LoRA, disturbed."""
        wrapped: Any = super().wrap(model, ctx)
        if self.config.repeat:
            generator = torch.Generator().manual_seed(derive_seed(self.config.repeat, f"noise/{ctx.stage}"))
            disturb([each for each in wrapped.parameters() if each.requires_grad], generator)
        return wrapped
