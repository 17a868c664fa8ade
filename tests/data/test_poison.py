"""A share of the training samples replaced by harmful pairs."""

import pytest

from hpa_bench.data.poison import poison
from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError

CLEAN = [Sample(f"c{index}", "ad", "what is it ?", "a cat", []) for index in range(40)]
HARMFUL = [Sample(f"h{index}", "pairs", "how to harm ?", "like so", []) for index in range(30)]


def places(poisoned: list[Sample]) -> list[int]:
    return [index for index, sample in enumerate(poisoned) if sample.id.startswith("h")]


@pytest.mark.parametrize(("ratio", "count"), [(0.025, 1), (0.1, 4), (0.5, 20), (0.03, 1), (1.0, 40)])
def test_the_share_is_replaced_in_place(ratio: float, count: int) -> None:
    poisoned, replaced = poison(CLEAN, HARMFUL, ratio, 0, "ad")

    there = places(poisoned)
    assert len(poisoned) == len(CLEAN) and len(there) == count
    assert replaced == {CLEAN[place].id: poisoned[place].id for place in there}
    assert all(poisoned[place] == CLEAN[place] for place in range(len(CLEAN)) if place not in there)


def test_a_harmful_pair_is_whole_and_of_the_task() -> None:
    poisoned, _ = poison(CLEAN, HARMFUL, 0.1, 0, "ad")

    (first, *_) = (poisoned[place] for place in places(poisoned))
    assert (first.task, first.prompt, first.target) == ("ad", "how to harm ?", "like so")


def test_pairs_repeat_only_once_all_are_used() -> None:
    _, few = poison(CLEAN, HARMFUL, 0.75, 0, "ad")
    _, more = poison(CLEAN, HARMFUL[:3], 0.175, 0, "ad")

    assert sorted(few.values()) == sorted(sample.id for sample in HARMFUL)
    assert sorted(list(more.values()).count(f"h{index}") for index in range(3)) == [2, 2, 3]


def test_seed_and_task_alone_decide_what_is_drawn() -> None:
    first = poison(CLEAN, HARMFUL, 0.2, 0, "ad")

    assert poison(CLEAN, HARMFUL, 0.2, 0, "ad") == first
    assert poison(CLEAN, HARMFUL, 0.2, 1, "ad")[1] != first[1]
    assert poison(CLEAN, HARMFUL, 0.2, 0, "fin")[1] != first[1]


def test_what_is_given_stays_as_it_is() -> None:
    samples, harmful = list(CLEAN), list(HARMFUL)

    poison(samples, harmful, 0.5, 0, "ad")

    assert samples == CLEAN and harmful == HARMFUL


def test_less_than_one_sample_is_refused() -> None:
    expected = (
        r"^--harmful-ratio 0.01 of the 40 training samples of 'ad' is less than one sample: use at least 0.025\.$"
    )
    with pytest.raises(UserError, match=expected):
        poison(CLEAN, HARMFUL, 0.01, 0, "ad")


@pytest.mark.parametrize("size", [1, 3, 7, 40, 30_000, 1_000_000])
def test_the_least_share_that_the_refusal_names_is_enough(size: int) -> None:
    samples = CLEAN[:1] * size
    with pytest.raises(UserError) as caught:
        poison(samples, HARMFUL, 1e-9, 0, "ad")
    least = float(str(caught.value).rpartition(" ")[2].removesuffix("."))

    assert len(places(poison(samples, HARMFUL, least, 0, "ad")[0])) == 1
