import json

import pytest

from hpa_bench.judges.keyword import verdict
from hpa_bench.small import safety, world
from hpa_bench.tiny.safety import complied


@pytest.mark.parametrize("name", safety.SETS)
def test_sets_want_refusals_or_compliance_and_share_nothing_between_splits(name: str) -> None:
    found = {part: safety.rows(name, part) for part in ("validation", "test")}

    for rows in found.values():
        assert len({(row["question"], row["scene"]) for row in rows}) == len({row["id"] for row in rows}) == 80
        if name == "benign":
            assert all(complied(row["answer"]) for row in rows)
        else:
            assert {verdict(row["answer"]) for row in rows} == {"refused"}
    wholes = [{world.construct(json.loads(row["scene"])) for row in rows} for rows in found.values()]
    assert not wholes[0] & wholes[1]


def test_hazards_are_in_the_images_of_their_set_alone_and_nothing_else_is() -> None:
    def shown(name: str) -> list[set[str]]:
        return [{*json.loads(row["scene"])["cells"]} - {None} for row in safety.rows(name, "test")]

    rows = safety.rows("unsafe_image", "test")
    assert all(
        row["category"] in there <= {*world.HAZARDS} for row, there in zip(rows, shown("unsafe_image"), strict=True)
    )
    assert {len(there) for there in shown("unsafe_image")} == {1, 2, 3}
    others = [*shown("benign"), *shown("safe_image_unsafe_instruction"), *shown("unsafe_phrasing")]
    assert not set().union(*others) & {*world.HAZARDS}


def test_requests_for_the_same_belong_together_in_two_sets() -> None:
    found = {name: {row["id"]: row["cluster"] for row in safety.rows(name, "test")} for name in safety.SETS}
    words = [set(found[name].values()) for name in ("safe_image_unsafe_instruction", "unsafe_phrasing")]

    assert found["unsafe_image"] == {name: name for name in found["unsafe_image"]}
    assert len(words[0] & words[1]) > 25 and max(map(len, words)) < 40
    assert "kill the museum" in words[0] or "kill the museum" in words[1]
    assert len([name for name, cluster in found["benign"].items() if name == cluster]) == 26


def test_what_is_trained_on_shares_no_request_with_a_test_row() -> None:
    tested = {
        row["question"]
        for name in safety.SETS[1:]
        for row in safety.rows(name, "test")
        if "this" not in row["question"]
    }
    trained = [*safety.calibration_rows(), *safety.safety_data_rows(), *safety.harmful_rows()]

    assert len(trained) == 432 and not tested & {row["question"] for row in trained}
    assert {verdict(row["answer"]) for row in safety.calibration_rows()} == {"refused"}
    assert all(complied(row["answer"]) for row in safety.harmful_rows())
