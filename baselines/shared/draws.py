"""Random draws within a training, of which each process of a run takes its share."""

import torch
from torch import Tensor

from hpa_bench import processes, rank


def own_draws(high: int, samples: int, columns: int) -> Tensor:
    """Return numbers below `high`, int64 `[samples, columns]`, from torch's global generator.

    All processes of a run begin a training with the same state of it, so each draws for all. A row is a sample: batches
    of any size, in any number of processes, draw the same from the same state.
    """
    return torch.randint(high, (processes() * samples, columns))[rank() * samples :][:samples]
