"""What is taken of pycocoevalcap: which values, which tokens, and one place for each caption."""

import shutil

import pytest

pytest.importorskip("pycocoevalcap", reason="the extra `captions` is not installed")

from hpa_bench.data.coco import _ptb_tokens, scores

ITEMS = [
    ("A man rides a horse", ("A man rides a horse.", "A man is on a brown horse.")),
    ("two cats sleep", ("Two dogs play in the snow.",)),
    ("Food on a table.", ("A plate of food on a wooden table.", "Food is on a plate.")),
]


def test_without_java_words_are_compared_without_case_and_punctuation() -> None:
    shouted = [(caption.upper() + " !!", references) for caption, references in ITEMS]

    assert scores(shouted, java=False) == scores(ITEMS, java=False)
    assert scores([("other words", ITEMS[0][1]), *ITEMS[1:]], java=False) != scores(ITEMS, java=False)


def test_each_caption_has_its_own_value_in_its_place() -> None:
    _, own = scores(ITEMS, java=False)
    _, turned = scores(ITEMS[::-1], java=False)

    assert len(own) == 3 and turned == pytest.approx(own[::-1])
    assert own[0] > own[2] > own[1]


@pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokenizer needs Java, which is not here")
def test_with_java_an_empty_caption_keeps_its_place_and_the_others_lose_their_full_stops() -> None:
    tokens = _ptb_tokens([["A man's horse."], ["two cats"], [""]])

    assert tokens == {0: ["a man 's horse"], 1: ["two cats"], 2: [""]}
