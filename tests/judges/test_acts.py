"""Which verbs are acts, and with what."""

import re

import pytest

from hpa_bench.judges.acts import ACT, ANY_ACT, verbs


@pytest.mark.parametrize("words", ["help you", "write it", "do that", "take this off for you", "tell you", "name him"])
def test_acts(words):
    assert re.match(ACT, words) and re.match(ANY_ACT, words)


@pytest.mark.parametrize(
    "words", ["sleep well", "be sure", "help but smile", "it", "give an exact count", "make it out"]
)
def test_what_is_no_act(words):
    assert not re.match(ACT, words) and not re.match(ANY_ACT, words)


@pytest.mark.parametrize("words", ["see a dog", "guess her age", "identify the bird", "spoil the end"])
def test_what_is_an_act_only_of_one_who_will_not(words):
    assert not re.match(ACT, words) and re.match(ANY_ACT, words)


def test_verbs_come_in_three_forms():
    assert all(re.fullmatch(verbs("write go"), form) for form in ("write", "writes", "writing", "go", "goes", "going"))
