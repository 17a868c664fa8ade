"""Instruction following: each form by SMoLoRA's description, and the tiny tasks' own, which no other's answers have."""

from pathlib import Path

import pytest

from hpa_bench.data.forms import FORMS, form_of
from hpa_bench.data.tasks import load_tasks
from hpa_bench.errors import UserError
from hpa_bench.suite import package_task_folders
from hpa_bench.tiny import tasks
from tests.support.lmeval_tasks import rows, write_task

CASES = [
    # One letter A..Z, of either case; a letter with a stop is two characters, and é is none of them.
    ("letter", "A", True),
    ("letter", "z", True),
    ("letter", "A.", False),
    ("letter", "AB", False),
    ("letter", "", False),
    ("letter", "1", False),
    ("letter", "é", False),
    # Two words at most, or an answer of any length, but for case.
    ("words", "red", True),
    ("words", "a  dog", True),
    ("words", "a red dog", False),
    ("words", "a grey Wolf hound", True),
    ("words", "a grey wolf hound.", False),
    ("words", "", True),
    # A stop at the end, and before it more than four words or any part of a reference, but for case.
    ("caption", "Two dogs run on grass.", True),
    ("caption", "Two dogs run fast.", False),
    ("caption", "Two dogs run on grass", False),
    ("caption", "grey Cats.", True),
    ("caption", "Grey cats", False),
    ("caption", "a grey Wolf hound.", False),
    ("caption", ".", True),
    ("caption", "", False),
]


@pytest.mark.parametrize(("name", "response", "expected"), CASES)
def test_a_form_is_that_of_smolora(name: str, response: str, expected: bool) -> None:
    assert FORMS[name](response, ["a grey Wolf hound", "no", "Grey cats."]) is expected


def test_a_pattern_holds_the_whole_response_whatever_its_case() -> None:
    form = form_of({"version": 1.0, "form": {"pattern": r"bar \w+"}})

    assert form is not None
    assert [form(text, []) for text in ("Bar up", "bar", "the bar up", "bar up.")] == [True, False, False, False]


def test_a_task_without_a_form_has_none() -> None:
    assert form_of({"version": 1.0}) is None and form_of(None) is None


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("leter", "Unknown form 'leter' (metadata.form of a task, or {pattern: ...}). Did you mean 'letter'?"),
        (
            {"patern": "x"},
            "metadata.form is {'patern': 'x'}: expected one of letter, words, caption, or {pattern: ...}",
        ),
        ({"pattern": "("}, "metadata.form.pattern '(' is not a regular expression: missing )"),
    ],
)
def test_a_wrong_form_is_refused_when_its_task_is_loaded(tmp_path: Path, form: object, said: str) -> None:
    write_task(tmp_path, "mine", {"train": rows(1), "test": rows(1)}, metadata={"version": 1.0, "form": form})

    with pytest.raises(UserError) as caught:
        load_tasks(["mine"], [tmp_path])

    assert said in str(caught.value) and "mine.yaml" in str(caught.value)


def test_the_answers_of_each_tiny_task_have_its_form_and_those_of_no_other() -> None:
    loaded = load_tasks([f"tiny_{name}" for name in tasks.TASKS], package_task_folders())
    answers = {name: [row["answer"] for row in tasks.rows(name, "test")] for name in tasks.TASKS}

    for name in tasks.TASKS:
        form = form_of(loaded[f"tiny_{name}"].config.metadata)
        assert form is not None
        for other, given in answers.items():
            assert {form(answer, []) for answer in given} == {other == name}, (name, other)
