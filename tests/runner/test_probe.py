"""Short runs, and what they tell of whole ones."""

from pathlib import Path

import pytest

from hpa_bench.data.poison import poison
from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.runner.price import Work
from hpa_bench.runner.probe import Pace, measure, shortened
from hpa_bench.spec import RunOptions, make_spec
from tests.support.suites import write_suite

PACE = Pace(start=10.0, first_step=1.0, step=2.0, training=0.5, stage=3.0, request=0.25, peak_memory=1, state=2)
WORK = Work(steps=(4, 6, 6), training_tokens=0, requests=(20, 20, 20, 20), prompt_tokens=0, new_tokens=0)


def test_seconds_of_a_run() -> None:
    whole = 10 + 4 * 1 + 12 * 2 + 3 * 0.5 + 3 * 3 + 4 * 20 * 0.25

    assert PACE.seconds(WORK) == whole
    assert PACE.seconds(WORK, takes_answers=True) == whole - 5
    assert PACE.seconds(WORK, takes_training=True) == whole - 4.5
    nothing = Work(steps=(), training_tokens=0, requests=(20,), prompt_tokens=0, new_tokens=0)
    assert PACE.seconds(nothing) == 15


def test_a_probe_is_short_and_of_the_same_shape(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, tasks=["colours", "shades", "tints"], evaluation={"batch_size": 6})
    spec = make_spec(RunOptions(str(suite), "seqft", seed=3, settings=["training.epochs=4"]))
    short = shortened(spec, tmp_path / "probe")

    assert short.suite.tasks == ["colours", "shades"] and short.suite.judges == ["keyword"]
    assert (short.suite.training.epochs, short.suite.training.limit) == (1, 128), "the calibration samples are whole"
    assert short.suite.evaluation.limit == 3 and short.suite.lora == spec.suite.lora and short.seed == 3


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0.0), (0.001, 1 / 128), (0.25, 0.25)])
def test_a_probe_has_a_harmful_sample_where_its_run_has_some(tmp_path: Path, ratio: float, expected: float) -> None:
    suite = write_suite(tmp_path)
    spec = make_spec(RunOptions(str(suite), "seqft", harmful_ratio=ratio))
    short = shortened(spec, tmp_path / "probe")

    limit = short.suite.training.limit
    assert (limit, short.harmful_ratio) == (128, expected)
    pairs = [Sample(f"{i}", "colours", "what ?", "red", []) for i in range(128)]
    if ratio:
        assert len(poison(pairs, pairs, short.harmful_ratio, 0, "colours")[1]) == round(128 * expected)


@pytest.mark.slow
def test_a_model_whose_weights_are_not_here_is_drawn(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite")
    for file in (tmp_path / "suite" / "model").glob("*.safetensors"):
        file.unlink()

    pace = measure(make_spec(RunOptions(str(suite), "ewc")), tmp_path / "probe", "cpu")

    assert min(pace.start, pace.first_step, pace.step, pace.training, pace.stage, pace.request) > 0
    assert pace.peak_memory > 1e8 and pace.state > 0
    assert list((tmp_path / "probe" / "model").glob("*.safetensors"))


@pytest.mark.slow
def test_a_probe_that_fails_says_why(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", training={"learning_rate": 1e30, "batch_size": 4})
    with pytest.raises(UserError, match="training loss became"):
        measure(make_spec(RunOptions(str(suite), "seqft")), tmp_path / "probe", "cpu")
