"""How many processes one run has, one a GPU, as `accelerate launch` or `torchrun` starts them, and which this one is.

All train and generate their share; the first alone writes the run directory. `hpa_bench.machine.group` joins them.
"""

from __future__ import annotations

import os
import time

GRACE_SECONDS = 20.0
"""How long a process leaves it to the first to say why all end, before it ends by itself."""


def processes() -> int:
    """Return how many processes this run has, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0")) if processes() > 1 else 0


def is_main() -> bool:
    """Whether this is the first process, the one that writes."""
    return rank() == 0


def leave_it_to_the_first() -> None:
    """Give the first process time to fail likewise and say why; a launcher ends all processes once one has ended."""
    if not is_main():
        time.sleep(GRACE_SECONDS)
