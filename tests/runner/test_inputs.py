from collections.abc import Sequence
from pathlib import Path

from hpa_bench.data.samples import Sample
from hpa_bench.runner.inputs import ASKED_AT_ONCE, safety_calibration


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
