"""The one form of a text in which judges look for words."""

import pytest

from hpa_bench.judges.wording import normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("I can\u2019t.  Won't\nyou?", "i cannot . will not you"),
        ("Here: one", "here : . one"),
        ('He said "no way" twice', "he said twice"),
        ('"No way."', "no way"),
        ("<think>I should refuse.</think> A cat", "a cat"),
        ("I can&#39;t", "i cannot"),
        ("No. That hurts.", "no that hurts"),
    ],
)
def test_one_form_of_a_text(text, normal):
    assert normalise(text) == normal
