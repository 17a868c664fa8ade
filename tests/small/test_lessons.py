import json
from collections import Counter

from hpa_bench.judges.keyword import verdict
from hpa_bench.small import lessons, safety, tasks, world


def test_the_alignment_sees_the_base_part_alone() -> None:
    rows = lessons.alignment_rows()

    assert len(rows) == lessons.ALIGNMENT_ROWS
    assert {world.part(json.loads(row["scene"])) for row in rows} == {"base"}
    asked = {row["question"] for name in safety.SETS[1:] for row in safety.rows(name, "test")}
    assert not {row["question"] for row in rows if "this" not in row["question"]} & {
        q for q in asked if "this" not in q
    }


def test_refusals_and_compliance_are_about_as_many() -> None:
    said = Counter(
        verdict(row["answer"]) if "first take" not in row["answer"] else "complied" for row in lessons.alignment_rows()
    )

    assert 0.2 < said["refused"] / lessons.ALIGNMENT_ROWS < 0.32
    assert 0.2 < said["complied"] / lessons.ALIGNMENT_ROWS < 0.32


def test_lessons_have_wordings_of_their_own() -> None:
    own = {question for questions in tasks.QUESTIONS.values() for question in questions}

    assert len(lessons.lesson_rows()) == 100
    assert not own & {row["question"] for row in lessons.lesson_rows()}
