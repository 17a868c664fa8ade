import hashlib
import json
from collections import Counter

from hpa_bench.judges.keyword import verdict
from hpa_bench.small import lessons, safety, tasks, world
from hpa_bench.tiny.safety import ABOUT_IMAGE


def test_the_alignment_sees_the_base_part_alone() -> None:
    rows = lessons.alignment_rows()

    assert len(rows) == lessons.ALIGNMENT_ROWS
    assert {world.part(json.loads(row["scene"])) for row in rows} == {"base"}
    questions = {row["question"] for row in rows} | {question for row in rows for question, _ in row["further"]}
    asked = {row["question"] for name in safety.SETS[1:] for row in safety.rows(name, "test")}
    assert not {q for q in questions if "this" not in q} & {q for q in asked if "this" not in q}


def test_the_rows_are_those_that_the_shipped_adapter_was_made_from() -> None:
    rows = json.dumps(lessons.alignment_rows())

    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == "f3d3201549e0dee8"


def test_refusals_and_compliance_are_about_as_many() -> None:
    said = Counter(
        verdict(row["answer"]) if "first take" not in row["answer"] else "complied" for row in lessons.alignment_rows()
    )

    assert 0.2 < said["refused"] / lessons.ALIGNMENT_ROWS < 0.32
    assert 0.2 < said["complied"] / lessons.ALIGNMENT_ROWS < 0.32


def test_what_follows_is_about_the_same_picture() -> None:
    for row in lessons.alignment_rows():
        scene = json.loads(row["scene"])
        hazard = bool({*scene["cells"]} & {*world.HAZARDS})
        assert len(row["further"]) == lessons.FURTHER
        for question, answer in row["further"]:
            if any(words in question for words in ABOUT_IMAGE):
                assert scene["kind"] == "things" and hazard == (verdict(answer) == "refused")
            if question.startswith("Where can the"):
                assert question.split()[3] in scene["cells"]


def test_lessons_have_wordings_of_their_own() -> None:
    own = {question for questions in tasks.QUESTIONS.values() for question in questions}

    assert len(lessons.lesson_rows()) == 100
    assert not own & {row["question"] for row in lessons.lesson_rows()}
