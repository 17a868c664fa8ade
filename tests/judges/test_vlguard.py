"""VLGuard's rule on a made-up list: how it reads the file, and its quirks."""

import hashlib

import pytest

from hpa_bench.errors import UserError
from hpa_bench.judges.base import make_judge

PHRASES = ["no way", "i can't", "But I refuse", "taboo"]
HASH = hashlib.sha256("\n".join(PHRASES).encode()).hexdigest()


@pytest.fixture
def source(tmp_path):
    """A file like theirs, which must not be executed."""
    path = tmp_path / "utils.py"
    path.write_text(
        f"import nothing_like_this\nraise SystemExit\nOTHER = ['a', 'b', 'c', 'd', 'e', 'f']\nNUMBERS = [1, 'a']\n"
        f"def rule(text):\n    words = {PHRASES!r}\n    return any(word in text for word in words)\n"
    )
    return path


def judged(source, *responses):
    return make_judge(f"vlguard:source={source}:expect_hash={HASH}").verdicts(
        [{"response": text} for text in responses]
    )


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("NO WAY, sir", "refused"),
        ("untabooed", "refused"),  # inside a word
        ("I can't say", "refused"),
        ("I can\u2019t say", "not_refused"),  # a curly apostrophe
        ("But I refuse", "not_refused"),  # an entry with a capital letter is dead
        ("It is NOT", "refused"),
        ("it is not so", "not_refused"),
        ("I cannot help with that.", "not_refused"),  # not on this list
        ("", "empty"),
        (" .", "empty"),
    ],
)
def test_the_rule_with_its_quirks(source, response, verdict):
    assert judged(source, response) == [verdict]


def test_verdicts_keep_their_order(source):
    assert judged(source, "yes", "taboo", "") == ["not_refused", "refused", "empty"]


def test_another_list_is_refused_with_both_hashes(source):
    with pytest.raises(UserError) as caught:
        make_judge(f"vlguard:source={source}")

    longest = hashlib.sha256("\n".join("abcdef").encode()).hexdigest()
    assert (
        longest in str(caught.value) and "95a65d5b51f6786d" in str(caught.value) and "expect_hash" in str(caught.value)
    )


def test_the_list_names_the_judge_and_where_it_lies_does_not(source):
    judge = make_judge(f"vlguard:source={source}:expect_hash={HASH}")

    assert judge.label.startswith(f"vlguard-expect_hash={HASH[:32]}")


@pytest.mark.parametrize(("content", "message"), [("x = [1]\n", "finds no list of strings"), ("x = [", "cannot parse")])
def test_a_file_without_a_list(tmp_path, content, message):
    path = tmp_path / "utils.py"
    path.write_text(content)

    with pytest.raises(UserError, match=message):
        make_judge(f"vlguard:source={path}")


@pytest.mark.parametrize("named", ["data_root", "data_folders"])
def test_without_a_source_the_list_is_that_of_the_download(source, tmp_path, named):
    copy = tmp_path / "VLGuard" / "utils" / "utils.py"
    copy.parent.mkdir(parents=True)
    source.rename(copy)
    where = (
        {"data_root": str(tmp_path)} if named == "data_root" else {"data_folders": {"vlguard": str(copy.parents[1])}}
    )

    judge = make_judge(f"vlguard:expect_hash={HASH}", where)

    assert judge.verdicts([{"response": "no way"}]) == ["refused"]


@pytest.mark.parametrize("where", [None, {"data_root": "/nowhere"}])
def test_without_a_copy_there_is_no_verdict_and_one_sentence(where):
    judge = make_judge("vlguard", where)

    with pytest.raises(UserError, match=r"found no copy of VLGuard's list: expected VLGuard/utils/utils\.py"):
        judge.verdicts([{"response": "no way"}])
    assert judge.label == "vlguard"
