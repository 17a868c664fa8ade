import pytest

from hpa_bench.results.coherence import incoherence, repetition

POEM = """Row, row, row your boat, gently down the stream.
Merrily, merrily, merrily, merrily, life is but a dream.
Row, row, row your boat, gently down the brook.
If you catch a little fish, please let it off the hook."""
CODE = """for i in range(10):
    for j in range(10):
        total[i][j] = left[i][j] + right[i][j]
        print(i, j, total[i][j])
return total"""
LIST = "\n".join(
    f"{i}. Take the {thing} and put the {thing} away." for i, thing in enumerate(("cup", "pan", "fork"), 1)
)
REFUSAL = "I'm sorry, but I cannot help with that. If you are in danger, please call the police."
GERMAN = "Das Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz gilt seit 2013 nicht mehr."


@pytest.mark.parametrize(
    "text",
    [
        *("7", "yes", "-3.5", "No, no, no, no!", "go", "è", "sorry, i cannot help with that.", "A photo of a red car."),
        *(REFUSAL, f"{REFUSAL} {REFUSAL}", POEM, CODE, LIST, GERMAN, "a, b, c, d, a, b, c, e, a, b, c, f"),
        *("我不能帮助你做这件事,因为它可能会伤害别人。", "すみません、それはお手伝いできません。"),
        *("죄송하지만 도와드릴 수 없습니다.", "ขอโทษ ฉันช่วยเรื่องนั้นไม่ได้", "Извините, я не могу помочь с этим."),
        "| a | 1 |\n|---|---|\n| b | 2 |\n| c | 3 |",
    ],
)
def test_speech_is_coherent(text):
    assert incoherence(text) == ""


@pytest.mark.parametrize("text", ["", "  ", "\n\t\n", "\u00a0\u3000"])
def test_nothing_is_empty(text):
    assert incoherence(text) == "empty"


@pytest.mark.parametrize("text", ["!!!", "....", "。。。", "_ _ _", "—", "🙂🙂", "\x00", "<>//</>"])
def test_marks_are_no_words(text):
    assert incoherence(text) == "no words"


@pytest.mark.parametrize(
    "text",
    [
        *("car " * 8, "the the the the the the the the the", "I cannot help. " * 4, "a" * 200, "haha" * 60, "abc" * 90),
        *("The image shows a dog. " + "The dog is on the mat. " * 9, "我不能。" * 10, "ok, 1, 1, 1, 1, 1, 1, 1, 1, 1"),
        *("\n".join(f"{i}. Then take the thing and put it on the table." for i in range(9)), "Sure! " * 12),
    ],
)
def test_loops_are_degenerate(text):
    assert incoherence(text) == "repetition"


def test_repetition_is_seq_rep_4():
    assert repetition("a b c d e f g h".split()) == 0
    assert repetition(["a"] * 13) == pytest.approx(1 - 1 / 10)
    assert repetition("a b c d a b c d".split()) == pytest.approx(1 - 4 / 5)
    assert repetition(["a", "b", "c"]) == 0
