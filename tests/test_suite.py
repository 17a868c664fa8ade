"""What a suite refuses before anything is loaded."""

import pytest

from hpa_bench.errors import UserError
from hpa_bench.spec import RunOptions, make_spec


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["tasks=[tiny_ad,tiny_fin,tiny_ad]"], "'tiny_ad' stands twice among tasks"),
        (["tasks=[tiny_ad,tiny_unsafe_image]"], "'tiny_unsafe_image' stands among tasks and among safety_sets"),
        (["benign_sets=[tiny_unsafe_image]"], "'tiny_unsafe_image' stands among safety_sets and among benign_sets"),
        (["p_min=20"], r"p_min \(20\) is above p_max \(15\)"),
    ],
)
def test_sets_and_rates_that_contradict_each_other_are_one_sentence(settings: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        make_spec(RunOptions("tiny", "hpa", settings=settings))
    assert "\n" not in str(caught.value)
