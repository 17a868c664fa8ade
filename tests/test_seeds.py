"""Random streams by name: the same everywhere, and different for every seed and name."""

import random

import torch

from hpa_bench.seeds import derive_seed


def test_seeds_are_the_same_on_every_machine() -> None:
    # printf '0/order' | sha256sum begins with 91374d56f0ae015b; a seed has one bit less.
    assert derive_seed(0, "order") == 0x91374D56F0AE015B >> 1
    assert derive_seed(0, "order") == derive_seed(0, "order")


def test_every_seed_and_name_has_its_own() -> None:
    names = ["order", "order/1", "order/11", "1/order", ""]
    found = {derive_seed(seed, name) for seed in (-1, 0, 1, 11) for name in names}

    assert len(found) == 4 * len(names)


def test_seeds_fit_the_generators_that_take_them() -> None:
    for seed in range(200):
        derived = derive_seed(seed, "x")
        assert 0 <= derived < 2**63
        assert torch.Generator().manual_seed(derived).initial_seed() == derived
    assert random.Random(derive_seed(0, "a")).random() != random.Random(derive_seed(0, "b")).random()
