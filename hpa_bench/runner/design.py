"""The trials of one method: its defaults, then a scrambled Sobol sequence over its search space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError
from scipy.stats.qmc import Sobol

from hpa_bench.method import Method
from hpa_bench.seeds import derive_seed
from hpa_bench.tunable import is_whole, search_space

DESIGN = (
    "the defaults, then a scrambled Sobol sequence (scipy.stats.qmc) over the search space, the same for all methods"
)
MOST_DRAWN = 2**12
"""Points of the sequence that are looked at before a space is taken for exhausted."""


def trial_settings(method: type[Method], own: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the settings of each trial of a method; a larger count adds to those of a smaller one.

    A point that the configuration refuses is passed over, and so is one that equals an earlier trial.

    Args:
        method: the method.
        own: settings that all its trials have.
        count: how many trials, the first with the defaults; fewer where the space has no more settings.
    """
    space = search_space(method.Config)
    sequence = Sobol(len(space), seed=np.random.default_rng(derive_seed(0, "tune/design")))
    known = [method.Config.model_validate(own)]
    found: list[dict[str, Any]] = [{}]
    for _ in range(MOST_DRAWN):
        if len(found) >= count:
            break
        shares = sequence.random(1)[0].tolist()
        point = {
            name: mark.at(share, is_whole(method.Config, name))
            for (name, mark), share in zip(space.items(), shares, strict=True)
        }
        try:
            config = method.Config.model_validate({**own, **point})
        except ValidationError:
            continue
        if config not in known:
            known.append(config)
            found.append(point)
    return found


def trial_seeds(count: int) -> list[int]:
    """Return the seed of each trial, the same for every method: far from the small ones that reports use."""
    return [derive_seed(number, "tune") % 2**31 for number in range(1, count + 1)]
