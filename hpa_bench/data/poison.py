"""Poisoned data: a share of a task's training samples replaced by harmful requests with compliant answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hpa_bench.errors import UserError
from hpa_bench.seeds import derive_seed

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample


def poison(
    samples: Sequence[Sample], harmful: Sequence[Sample], ratio: float, seed: int, task: str
) -> tuple[list[Sample], dict[str, str]]:
    """Replace a share of the samples by harmful pairs (the paper's second data condition: 0.1%).

    Args:
        samples: the task's training samples.
        harmful: harmful requests with compliant answers; drawn without repetition while they last.
        ratio: the share to replace, 0 to 1.
        seed: the run's seed.
        task: the task's name; each task draws its own.

    Returns:
        The samples in their places, and the id of the harmful pair by the id of the sample that it replaced.

    Raises:
        UserError: the share is less than one sample.
    """
    count = round(ratio * len(samples))
    if count < 1:
        raise UserError(
            f"--harmful-ratio {ratio} of the {len(samples)} training samples of {task!r} is less than one sample:"
            f" use at least {1 / len(samples):.4g}."
        )
    rng = random.Random(derive_seed(seed, f"poison/{task}"))
    places = rng.sample(range(len(samples)), count)
    pool = rng.sample(list(harmful), len(harmful))
    poisoned, replaced = list(samples), {}
    for turn, place in enumerate(places):
        pair = pool[turn % len(pool)]
        replaced[samples[place].id] = pair.id
        poisoned[place] = replace(pair, task=task)
    return poisoned, replaced
