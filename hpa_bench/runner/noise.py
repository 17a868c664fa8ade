"""Noise: a stage's training from initial values that are one rounding error away, so that only rounding can differ."""

from __future__ import annotations

import torch
from torch import nn

from hpa_bench.seeds import derive_seed

SIZE = 1e-7
"""Of each value: about one unit in the last place of float32."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers as wide as a float, in bytes: with equal signs, the next float away from 0 is the next integer."""


@torch.no_grad()
def disturb(model: nn.Module, seed: int, repeat: int, stage: int) -> None:
    """Multiply every value that is about to be trained by 1 + 1e-7 or 1 - 1e-7, whichever is drawn.

    Where that rounds to the value itself, as in bfloat16, it becomes the float beside it; 0 stays 0. Processes of one
    run draw the same.

    Args:
        model: what the method's `wrap` returned.
        seed: of the run.
        repeat: the number of the noise run, from 1 on.
        stage: counted from 1.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, f"noise/{repeat}/{stage}"))
    for tensor in (each for each in model.parameters() if each.requires_grad):
        sign = 2 * torch.randint(2, tensor.shape, generator=generator, dtype=torch.int8).to(tensor.device) - 1
        moved = (tensor.double() * (1 + SIZE * sign)).to(tensor.dtype)
        bits = _BITS[tensor.element_size()]
        beside = (tensor.view(bits) + sign.to(bits)).view(tensor.dtype)
        tensor.copy_(torch.where((moved == tensor) & (tensor != 0), beside, moved))
