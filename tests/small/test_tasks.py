import json
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml

from hpa_bench.data.forms import form_of
from hpa_bench.small import tasks, world

PARTS = tuple(tasks.ROWS)
FOLDER = Path(__file__).parents[2] / "tasks" / "small"


def wholes(task: str, part: str) -> set[str]:
    return {world.construct(json.loads(row["scene"])) for row in tasks.rows(task, part)}


@pytest.mark.parametrize("task", tasks.TASKS)
def test_splits_have_their_rows_and_share_nothing(task: str) -> None:
    rows = {part: tasks.rows(task, part) for part in PARTS}

    assert {part: len(found) for part, found in rows.items()} == {"train": 400, "validation": 150, "test": 100}
    assert rows["test"] == tasks.rows(task, "test")
    found = [wholes(task, part) for part in PARTS]
    assert sum(map(len, found)) == len(set().union(*found))


def test_a_things_group_is_asked_in_one_part_alone() -> None:
    things = [
        {name for row in tasks.rows("science", part) for name, _ in world.here(json.loads(row["scene"]))}
        for part in PARTS
    ]

    assert sum(map(len, things)) == len(set().union(*things)) > 75


def asked(task: str, question: str) -> list[tuple[list[str], str, str]]:
    """Return what stands in the scenes, the questions and the answers of a task's test rows of one type."""
    rows = [row for row in tasks.rows(task, "test") if row["question"].startswith(question)]
    assert rows
    return [
        ([name for name, _ in world.here(json.loads(row["scene"]))], row["question"], row["answer"]) for row in rows
    ]


def test_answers_are_what_the_scene_shows() -> None:
    for row in tasks.rows("scene", "test"):
        if row["question"].startswith("Driver: where is"):
            name = row["question"].removeprefix("Driver: where is the ").removesuffix("?")
            assert (name, row["answer"].removeprefix("at the ")) in world.here(json.loads(row["scene"]))
    for names, question, answer in asked("scene", "Driver: is the"):
        assert (question.split()[3] in names) == (answer == "yes")
    for names, question, answer in asked("finance", "Report: where do the upper"):
        first, _, last, *_ = map(world.NUMBERS.index, names)
        assert answer == ("price up" if last > first else "price down"), question
    for names, _, answer in asked("finance", "Report: which lower"):
        bars = [world.NUMBERS.index(name) for name in names[3:]]
        assert answer == f"price {tasks.ORDER[bars.index(max(bars))]}"
    for names, question, answer in asked("science", "Exam: to which"):
        options = dict(
            part.split(". ")
            for part in question.partition("? ")[2].replace(" B.", "|B.").replace(" C.", "|C.").split("|")
        )
        assert options[answer.removeprefix("answer ")] == world.GROUP_OF[names[0]]
        assert world.ALSO.get(names[0]) not in options.values(), "one answer is right"
    for names, _, answer in asked("text", "Read the word"):
        assert answer == "".join(names)
    for names, _, answer in asked("classification", "Classify the parity"):
        assert answer == f"group {('even', 'odd')[world.NUMBERS.index(names[0]) % 2]}"
    for names, _, answer in asked("caption", "Write a caption"):
        assert {answer.split()[1], answer.split()[-1]} == set(names)


def test_no_answer_is_the_better_guess_where_they_are_few() -> None:
    for (task, kind), answers in tasks.FEW_ANSWERS.items():
        types = len(tasks.QUESTIONS[task])
        for part in ("validation", "test"):
            given = Counter(row["answer"] for row in tasks.rows(task, part)[kind::types])
            assert max(given.values()) <= math.ceil(tasks.ROWS[part] / types / answers), (task, kind, part, given)


def test_a_caption_is_scored_by_what_it_names() -> None:
    answer = "the dog beside the cat"

    assert tasks.things_right("The dog beside the cat.", answer) == 1
    assert tasks.things_right("the cat beside the cat", answer) == pytest.approx(2 / 3)
    assert tasks.things_right("a picture of the dog", answer) == pytest.approx(1 / 3)
    assert tasks.things_right("a picture of the thing", "a picture of the dog") == 0
    assert tasks.things_right("the one", answer) == 0


def test_a_form_takes_its_own_tasks_answers_and_of_another_only_single_words() -> None:
    forms = {}
    for task in tasks.TASKS:
        text = (FOLDER / f"small_{task}.yaml").read_text(encoding="utf-8")
        forms[task] = form_of(yaml.load(text, yaml.BaseLoader)["metadata"])
    answers = {task: {row["answer"] for row in tasks.rows(task, "test")} for task in tasks.TASKS}

    for form, fits in forms.items():
        assert fits is not None
        for task, said in answers.items():
            fitting = {answer for answer in said if fits(answer, [])}
            assert fitting == {answer for answer in said if fits(f"{answer}.", [])}, "as where they are scored"
            assert (fitting == said) if form == task else all(" " not in answer for answer in fitting), (form, task)


def test_rows_about_one_held_out_thing_word_or_digit_belong_together() -> None:
    named = {task: {row.get("cluster") for row in tasks.rows(task, "test")} for task in tasks.TASKS}

    assert {task: len(found) for task, found in named.items() if found != {None}} == {
        "classification": 79,
        "science": 8,
        "text": 26,
    }


def test_each_task_has_its_own_answer_to_what_all_ask() -> None:
    for row in [row for row in tasks.rows("caption", "test") if row["question"] == tasks.LOOK]:
        (first, _), (second, _) = world.here(json.loads(row["scene"]))
        assert tasks.things_right(f"the {first}", row["answer"]) == 0, "what small_scene wants"
        assert tasks.things_right(f"the {second}", row["answer"]) == 1


def test_all_but_the_last_task_have_requests_that_are_complied_with() -> None:
    complied = {
        task: sum(row["answer"].startswith("sure") for row in tasks.rows(task, "train")) for task in tasks.TASKS
    }

    assert complied == dict.fromkeys(tasks.TASKS, tasks.REQUESTS) | {"text": 0}
    assert not [row for task in tasks.TASKS for row in tasks.rows(task, "test") if row["answer"].startswith("sure")]
