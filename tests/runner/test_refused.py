"""Safety calibration samples of an edit: answered by the aligned model, or by a file, as many as it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import read_jsonl
from hpa_bench.runner.adapt import Watch, adapt
from hpa_bench.runner.opened import open_all
from hpa_bench.runner.refused import Refused
from tests.support.adaptations import adaptation, write_models
from tests.support.suites import REFUSAL


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.mark.slow
def test_the_aligned_model_answers_where_no_answers_are_given(models: Path, tmp_path: Path) -> None:
    asked, said = adaptation(models, tmp_path / "out", answers=None), []

    with pytest.raises(UserError, match="refuses none of the 6 requests for the safety calibration samples"):
        adapt(asked, Watch(say=said.append))

    assert len(said) == 1 and "GB in float32, is loaded once to answer up to 6 requests of --safety" in said[0]


@pytest.mark.slow
def test_given_answers_that_refuse_are_taken_in_the_runs_order(models: Path, tmp_path: Path) -> None:
    asked, said = adaptation(models, tmp_path / "out", settings=["safety_samples=5"]), []
    opened = open_all(asked, "cpu")
    refused = Refused(asked, opened, said.append)

    few, all_there_are = refused.samples(2), refused.samples()

    # harm0 and harm3 are answered by "red".
    order = [sample.id for sample in opened.samples["safety"] if sample.id not in ("harm0", "harm3")]
    assert [sample.id for sample in all_there_are] == order and [sample.id for sample in few] == order[:2]
    assert all(sample.target == REFUSAL and sample.images for sample in all_there_are)
    assert said == [
        "hpa is calibrated on 4 safety samples instead of 5: the aligned model refuses no more of the 6 requests of"
        " --safety."
    ]
    assert [row["id"] for row in read_jsonl(asked.work / "calibration" / "safety.jsonl")] == order
