"""What a method sees of a stage of a run that is prepared, and not trained."""

import pytest

from hpa_bench.method import StageContext
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.context import Contexts
from hpa_bench.runner.setup import Setup, prepare
from hpa_bench.spec import RunOptions, make_spec
from tests.support.suites import write_suite


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("context")
    calibration = {"safety_set": "refusals", "safety_samples": 2, "task_samples": 5}
    suite = write_suite(folder, calibration=calibration)
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
