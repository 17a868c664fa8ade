import pytest

from hpa_bench.tiny import safety, tasks, world
from tests.support.tiny_rows import digest, digest_elsewhere, pairs, part_of, scenes


def asked(task: str, question: str) -> list[tuple[dict, str, str]]:
    """Return what the pictures of a task's test rows of one type show, with question and answer."""
    rows = [row for row in tasks.rows(task, "test") if row["question"].startswith(question)]
    assert rows
    return [(scene, row["question"], row["answer"]) for scene, row in zip(scenes(rows), rows, strict=True)]


def test_answers_are_what_the_scene_shows() -> None:
    for scene, _, answer in asked("ad", "Driver: may we go"):
        assert (answer == "yes") == (scene["light"] == "green" and scene["walker"] == "nowhere")
    for scene, _, answer in asked("ad", "Driver: how many cars"):
        assert answer == scene["cars"]
    classes = world.digits()[1]
    for scene, _, answer in asked("imagenet", "Classify the parity"):
        assert answer == f"group {('even', 'odd')[classes[scene['index']] % 2]}"
    for scene, _, answer in asked("imagenet", tasks.LOOK):
        assert answer == f"class {world.NUMBERS[classes[scene['index']]]}"
    for scene, _, answer in asked("flickr30k", "Write a caption"):
        parts = ("colour1", "shape1", "layout", "colour2", "shape2")
        assert answer == " ".join(scene[name] for name in parts)
    for which, extreme in (("highest", max), ("lowest", min)):
        for scene, _, answer in asked("fin", f"Report: which bar is {which}"):
            prices = {bar: world.NUMBERS.index(scene[bar]) for bar in world.BARS}
            assert prices[answer.removeprefix("bar ")] == extreme(prices.values())
    for scene, question, answer in asked("fin", "Report: what is the price of"):
        assert answer == f"bar {scene[question.rstrip('?').split()[-1]]}"
    for scene, question, answer in asked("scienceqa", "Exam: which state"):
        options = dict(option.split() for option in question.partition("? ")[2].split(", "))
        assert options[answer.removeprefix("answer ")] == scene["state"]
    for scene, _, answer in asked("textvqa", "Read the word"):
        assert answer == f"{scene['first']} {scene['middle']} {scene['last']}"


@pytest.mark.slow
def test_rows_are_the_same_in_every_process() -> None:
    every = "[tasks.rows(task, part) for task in tasks.TASKS for part in tasks.ROWS]"

    assert digest_elsewhere("tasks", every) == digest(eval(every))


@pytest.mark.parametrize("task", tasks.TASKS)
def test_splits_of_a_task_share_no_scene(task):
    found = {part: {world.construct(scene) for scene in scenes(tasks.rows(task, part))} for part in tasks.ROWS}

    assert not found["train"] & found["test"]
    assert not found["validation"] & found["test"]
    assert not found["train"] & found["validation"]
    assert all({part_of(scene) for scene in scenes(tasks.rows(task, part))} == {part} for part in tasks.ROWS)


def test_rows_about_one_scene_belong_together() -> None:
    named = {task: [row["cluster"] for row in tasks.rows(task, "test")] for task in tasks.TASKS}

    assert {task: len(set(found)) for task, found in named.items()} == {
        "ad": 30,
        "imagenet": 113,
        "flickr30k": 95,
        "fin": 38,
        "scienceqa": 33,
        "textvqa": 142,
    }
    assert named["imagenet"] == [f"digit {scene['index']}" for scene in scenes(tasks.rows("imagenet", "test"))]


@pytest.mark.parametrize("task", tasks.TASKS)
def test_rows_are_fixed_and_complete(task):
    for part, count in tasks.ROWS.items():
        rows = tasks.rows(task, part)
        assert len(rows) == count == len({row["id"] for row in rows})
        assert rows == tasks.rows(task, part)
        assert all(row["answer"] and row["question"] for row in rows)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_only_training_rows_hold_requests_that_sound_harmful(task):
    found = {part: [row for row in tasks.rows(task, part) if safety.complied(row["answer"])] for part in tasks.ROWS}

    assert len(found["train"]) == (tasks.REQUESTS if task in tasks.REQUEST_VERBS else 0)
    assert not found["validation"] and not found["test"]
    judged = [row for name in safety.SETS for part in ("validation", "test") for row in safety.rows(name, part)]
    assert not pairs(found["train"]) & pairs(judged)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_task_asks_one_question_in_the_words_of_all(task):
    for part in tasks.ROWS:
        assert any(row["question"] == tasks.LOOK for row in tasks.rows(task, part))


def test_may_we_go_is_as_often_yes_as_no():
    rows = [row for row in tasks.rows("ad", "train") if "may we go" in row["question"]]

    assert 0.3 < sum(row["answer"] == "yes" for row in rows) / len(rows) < 0.7


def test_scores():
    assert tasks.exact("Class  Four.", "class four") == 1
    assert tasks.exact("", "class four") == 0
    assert tasks.slots("red circle beside blue square", "red circle above blue square") == pytest.approx(0.8)
    assert tasks.slots("red circle beside blue square red", "red circle beside blue square") == pytest.approx(5 / 6)
    assert tasks.slots("", "red circle beside blue square") == 0
