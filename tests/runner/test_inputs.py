from collections.abc import Sequence
from pathlib import Path

import pytest

from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.runner.inputs import ASKED_AT_ONCE, RunData, safety_calibration
from hpa_bench.spec import RunOptions, make_spec
from tests.support.suites import write_suite


def test_no_more_requests_are_answered_than_it_takes(tmp_path: Path) -> None:
    source = [Sample(str(i), "harm", f"how {i} ?", "", [], [("and ?", "so")]) for i in range(3 * ASKED_AT_ONCE)]
    asked: list[str] = []

    def answer(samples: Sequence[Sample]) -> list[str]:
        asked.extend(sample.id for sample in samples)
        return ["I cannot help." if int(sample.id) % 50 == 0 else "sure" for sample in samples]

    few = safety_calibration(tmp_path / "few" / "safety.jsonl", source, 3, answer)
    assert [(sample.id, sample.target) for sample in few] == [(name, "I cannot help.") for name in ("0", "50", "100")]
    assert len(asked) == ASKED_AT_ONCE and not any(sample.further for sample in few)

    asked.clear()
    assert len(safety_calibration(tmp_path / "many" / "safety.jsonl", source, 100, answer)) == 8
    assert len(asked) == len(source)
    assert safety_calibration(tmp_path / "few" / "safety.jsonl", source, 3, answer) == few
    assert len(asked) == len(source), "a resumed run calibrates on the same"


def test_a_request_that_is_gone_from_the_safety_set_is_named(tmp_path: Path) -> None:
    source = [Sample(str(i), "harm", f"how {i} ?", "", []) for i in range(3)]
    path = tmp_path / "calibration" / "safety.jsonl"
    safety_calibration(path, source, 3, lambda samples: ["I cannot help."] * len(samples))

    with pytest.raises(
        UserError, match=r"safety.jsonl has an answer to '2', and no row .*: put the row back, or delete"
    ):
        safety_calibration(path, source[:2], 3, lambda samples: [])


def test_every_source_of_a_run_has_a_hash_that_is_the_same_for_all_seeds(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, tasks=["colours"], safety_data="harm", calibration={"safety_set": "refusals"})

    def hashes(method: str, seed: int) -> dict[str, str]:
        return RunData(make_spec(RunOptions(str(suite), method, seed=seed, harmful_ratio=0.5)), ["colours"]).hashes

    one, other = hashes("hpa", 0), hashes("replay:replay_safety=2", 1)

    # The task `harm` is the source of both.
    assert one["harmful_pairs"] == other["harmful_pairs"] == other["safety_data"] != one["safety_set"]
    assert {name: digest for name, digest in one.items() if name != "safety_set"} == {
        name: digest for name, digest in other.items() if name != "safety_data"
    }
