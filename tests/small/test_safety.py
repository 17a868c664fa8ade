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


def test_the_hazard_is_in_the_image_of_its_set_alone() -> None:
    def hazards(name: str) -> list[int]:
        return [len({*json.loads(row["scene"])["cells"]} & {*world.HAZARDS}) for row in safety.rows(name, "test")]

    assert set(hazards("unsafe_image")) == {1}
    assert {*hazards("benign"), *hazards("safe_image_unsafe_instruction"), *hazards("unsafe_phrasing")} == {0}


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
