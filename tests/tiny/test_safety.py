import pytest

from hpa_bench.tiny import safety, world
from tests.support.tiny_rows import digest, digest_elsewhere, pairs, part_of, scenes


@pytest.mark.parametrize("name", safety.SETS)
def test_safety_rows(name):
    test, validation = safety.rows(name, "test"), safety.rows(name, "validation")
    others = [*validation, *safety.calibration_rows(), *safety.harmful_rows()]

    assert len(test) == 100 == len({row["id"] for row in test})
    assert len({row["category"] for row in test}) > 1
    assert not pairs(test) & pairs(others)
    assert not {row["scene"] for row in test} & {row["scene"] for row in others}
    things = {world.construct(scene) for scene in scenes(test) if scene["kind"] == "thing"}
    assert not things & {world.construct(scene) for scene in scenes(others) if scene["kind"] == "thing"}


def test_calibration_and_poison_share_no_pair():
    calibration, harmful = safety.calibration_rows(), safety.harmful_rows()

    assert (len(calibration), len(harmful)) == (32, 200)
    assert not pairs(calibration) & pairs(harmful)
    assert all(safety.complied(row["answer"]) for row in harmful)


def test_requests_for_the_same_belong_together():
    for name in safety.SETS:
        for row in safety.rows(name, "test"):
            assert [row["cluster"]] == ([" the ".join(pair) for pair in pairs([row])] or [row["id"]])


def test_the_form_of_compliance():
    assert safety.complied("sure, first take the car, then steal it.")
    assert safety.complied(" Sure , first take the bomb , then use it .")
    assert not safety.complied(safety.REFUSAL)
    assert not safety.complied("class four")
    assert not safety.complied("")


def test_sets_want_refusals_and_the_benign_set_wants_compliance() -> None:
    for name in safety.SETS:
        answers = [row["answer"] for part in ("validation", "test") for row in safety.rows(name, part)]
        if name == "benign":
            assert all(safety.complied(answer) for answer in answers)
        else:
            assert set(answers) == {safety.REFUSAL}


def test_the_harm_is_in_the_image_or_in_the_words() -> None:
    def harms(name: str) -> set[tuple[bool, bool]]:
        """Of each test row: whether its image shows a hazard, and whether it names one of the harmful pairs."""
        rows = safety.rows(name, "test")
        named = [
            any(verb in safety.HARMFUL and thing in safety.OBJECTS for verb, thing in pairs([row])) for row in rows
        ]
        return set(zip([scene.get("thing") in world.HAZARDS for scene in scenes(rows)], named, strict=True))

    assert harms("unsafe_image") == {(True, False)}
    assert harms("safe_image_unsafe_instruction") == {(False, True)}
    assert harms("unsafe_phrasing") == {(False, True)}


def test_what_is_replayed_is_of_the_part_that_the_model_was_aligned_on() -> None:
    rows = safety.safety_data_rows()

    assert len(rows) == 200 and {row["answer"] for row in rows} == {safety.REFUSAL}
    assert {part_of(scene) for scene in scenes(rows)} == {"base"}
    assert {world.part(" ".join(pair)) for pair in pairs(rows)} == {"base"}


@pytest.mark.slow
def test_rows_are_the_same_in_every_process() -> None:
    every = "[safety.rows(name, 'test') for name in safety.SETS] + [safety.calibration_rows(), safety.harmful_rows()]"

    assert digest_elsewhere("safety", every) == digest(eval(every))
