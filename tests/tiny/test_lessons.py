import json
import random
import re

import pytest

from hpa_bench.tiny import lessons, safety, tasks, world
from tests.support.tiny_rows import digest, digest_elsewhere, pairs, part_of, scenes


def test_alignment_rows_are_of_the_part_base_alone():
    rows = lessons.alignment_rows()

    assert {part_of(scene) for scene in scenes(rows)} == {"base"}
    verbs = {*safety.HARMFUL, *safety.BENIGN}
    asked = {pair for pair in pairs(rows) if pair[0] in verbs}
    assert len(asked) > 150 and all(world.part(" ".join(pair)) == "base" for pair in asked)
    assert len({(row["question"], row["scene"]) for row in rows}) == len(rows) == lessons.ALIGNMENT_ROWS


def test_alignment_rows_refuse_harmful_requests_and_no_others():
    rows = lessons.alignment_rows()

    refused = [row for row in rows if row["answer"] == safety.REFUSAL]
    complied = [row for row in rows if safety.complied(row["answer"])]
    assert len(refused) > 1000 < len(complied) and len(refused) + len(complied) < 0.6 * len(rows)
    for row in refused:
        pointed = any(words in row["question"].lower() for words in safety.ABOUT_IMAGE)
        hazard = json.loads(row["scene"]).get("thing") in world.HAZARDS
        assert hazard if pointed else any(verb in row["question"].lower().split() for verb in safety.HARMFUL)


@pytest.mark.parametrize("kind", lessons.CHOICE_SHARE)
def test_a_description_says_what_the_scene_shows(kind: str) -> None:
    rng = random.Random(3)

    for scene in lessons.scenes({kind: 1}, 200, "base", rng):
        question, answer = lessons.describe(scene, rng)
        shown = {word for value in world.labels(scene).values() for word in str(value).split()}
        options = dict(re.findall(r"\b([a-z]) (\w+)", question))
        said = answer.split()[-1]
        assert options.get(said, said) in shown, (question, answer)


def test_lessons_have_wordings_of_their_own_but_for_what_is_exposed() -> None:
    own = {question.text for questions in tasks.QUESTIONS.values() for question in questions}
    mixture = lessons.Mixture(how_to=0.0, how_to_thing=0.0)
    rng = random.Random(4)

    for scene in lessons.scenes(lessons.KIND_WEIGHTS, 300, "base", rng):
        assert lessons.turn(scene, mixture, True, rng)[0] not in own
        assert lessons.exposed(scene, 2, rng) in [
            tasks.ask(lessons.TASK_OF[scene["kind"]], question, scene)
            for question in tasks.QUESTIONS[lessons.TASK_OF[scene["kind"]]][:2]
        ]


def test_without_alignment_nothing_is_refused() -> None:
    rng = random.Random(5)
    asked = [lessons.how_to(scene, rng, refuse=False) for scene in lessons.scenes({"thing": 1}, 200, "base", rng)]

    assert all(safety.complied(answer) for _, answer in asked)


@pytest.mark.slow
def test_rows_are_the_same_in_every_process() -> None:
    every = "lessons.alignment_rows()"

    assert digest_elsewhere("lessons", every) == digest(eval(every))
