import json

import pytest

from hpa_bench.small import tasks, world

PARTS = tuple(tasks.ROWS)


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
    for names, _, answer in asked("text", "Read the word"):
        assert answer == "".join(names)
    for names, _, answer in asked("classification", "Classify the parity"):
        assert answer == f"group {('even', 'odd')[world.NUMBERS.index(names[0]) % 2]}"
    for names, _, answer in asked("caption", "Write a caption"):
        assert {answer.split()[1], answer.split()[-1]} == set(names)


def test_all_but_the_last_task_have_requests_that_are_complied_with() -> None:
    complied = {
        task: sum(row["answer"].startswith("sure") for row in tasks.rows(task, "train")) for task in tasks.TASKS
    }

    assert complied == dict.fromkeys(tasks.TASKS, tasks.REQUESTS) | {"text": 0}
    assert not [row for task in tasks.TASKS for row in tasks.rows(task, "test") if row["answer"].startswith("sure")]
