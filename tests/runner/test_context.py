"""What a method sees of a stage of a run that is prepared, and not trained."""

import json
import logging
from collections.abc import Sequence

import pytest

from hpa_bench.method import StageContext
from hpa_bench.models.prompts import Batch
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.context import Contexts
from hpa_bench.runner.setup import Setup, prepare
from hpa_bench.spec import RunOptions, make_spec
from tests.support.suites import write_suite


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("context")
    calibration = {"safety_set": "refusals", "safety_samples": 2, "task_samples": 5}
    suite = write_suite(folder, aligned=True, calibration=calibration)
    run = RunFolder(folder / "run")
    with run.locked():
        return prepare(make_spec(RunOptions(str(suite), "hpa", seed=3)), run, "cpu")


def ids(contexts: Contexts, index: int) -> list[str]:
    return [sample.id for sample in contexts.training_samples(index)]


def pixels(ctx: StageContext) -> list[float]:
    return [batch["pixel_values"].sum().item() for batch in ctx.task_calibration()]


def test_a_stage_has_the_samples_of_what_was_trained_so_far(setup: Setup) -> None:
    first, second = Contexts(setup).of(1), Contexts(setup).of(2)

    assert (first.stage, first.stages, first.tasks, first.seed) == (1, 2, ("colours",), 3)
    assert len(first.samples("colours")) == 12
    with pytest.raises(KeyError):
        first.samples("shades")
    assert second.tasks == ("shades",) and len(second.samples("shades")) == len(second.samples("colours")) == 12


def test_the_aligned_model_has_trained_on_nothing(setup: Setup) -> None:
    contexts = Contexts(setup)

    assert contexts.of(0).tasks == () and contexts.training_samples(0) == []
    assert ids(contexts, 1) == [sample.id for sample in setup.data.training["colours"]]


def test_before_a_stage_is_the_last_ones_weights_and_else_the_start(setup: Setup) -> None:
    ctx = Contexts(setup).of(1)

    assert ctx.before is ctx.start is setup.base.start and ctx.unaligned is None
    assert ctx.folder == setup.run.path / "method"


def test_calibration_is_a_draw_of_the_stages_own_samples_the_same_each_time(setup: Setup) -> None:
    batches = Contexts(setup).of(1).task_calibration()

    assert sum(len(batch["input_ids"]) for batch in batches) == 5 and all("labels" in batch for batch in batches)
    again = Contexts(setup)
    assert pixels(again.of(1)) == pixels(again.of(1)) == pixels(Contexts(setup).of(1))
    drawn = [sample.id for sample in again._task_samples(1)]
    assert len(set(drawn)) == 5 and set(drawn) < set(ids(again, 1)) and drawn != ids(again, 1)[:5]
    assert [sample.id for sample in again._task_samples(2)] != drawn


def stored(setup: Setup, folder: str) -> list[str]:
    lines = (setup.run.path / folder / "safety.jsonl").read_text().splitlines()
    return [json.loads(line)["id"] for line in lines]


def count(batches: Sequence[Batch]) -> int:
    return sum(len(batch["input_ids"]) for batch in batches)


def test_a_method_may_ask_for_a_number_of_safety_samples_of_its_own(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    contexts = Contexts(setup)
    ctx = contexts.of(1)

    with caplog.at_level(logging.WARNING):
        assert [count(ctx.safety_calibration(number)) for number in (5, None, 2, 5)] == [5, 2, 2, 5]
    assert not caplog.messages

    assert sorted(path.name for path in setup.run.path.glob("calibration*")) == ["calibration", "calibration-5"]
    assert stored(setup, "calibration-5")[:2] == stored(setup, "calibration") != stored(setup, "calibration-5")


def test_what_a_resumed_run_calibrates_on_is_not_asked_again(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [float(batch["pixel_values"].sum()) for batch in Contexts(setup).of(1).safety_calibration(4)]
    monkeypatch.setattr(setup.evaluator, "answer", None)

    again = [float(batch["pixel_values"].sum()) for batch in Contexts(setup).of(2).safety_calibration(4)]

    assert again == first


def test_more_safety_samples_than_are_refused_are_all_and_said_once(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    contexts = Contexts(setup)
    with caplog.at_level(logging.WARNING):
        found = [count(contexts.of(stage).safety_calibration(100)) for stage in (1, 2)]

    assert found[0] == found[1] <= 8
    assert caplog.messages == [
        f"hpa asks for 100 safety calibration samples and gets {found[0]}: the aligned model refuses no more of the"
        " 8 requests of refusals."
    ]
