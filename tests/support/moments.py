"""Second moments, and what is known of the inverse of such a matrix without the code that is tested."""

import torch


def moments(columns: int = 12, seed: int = 0) -> torch.Tensor:
    x = torch.randn(200, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x @ (torch.eye(columns, dtype=torch.float64) + 0.4)
    return 2 * x.T @ x / len(x)


def damped_rows(h: torch.Tensor) -> list[torch.Tensor]:
    """Return row k of U, from its diagonal on, as the inverse of H without the columns left of k has it."""
    damped = h + 0.01 * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
    inverses = [damped[k:, k:].inverse() for k in range(len(h))]
    return [inverse[0] / inverse[0, 0].sqrt() for inverse in inverses]
