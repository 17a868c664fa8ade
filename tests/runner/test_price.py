"""What a run comes to, beside what a real one does."""

from pathlib import Path

import pytest

from hpa_bench import run
from hpa_bench.method import methods
from hpa_bench.models.loading import load_processor
from hpa_bench.models.prompts import training_batch
from hpa_bench.runner.events import LOG, read_log
from hpa_bench.runner.inputs import RunData
from hpa_bench.runner.price import Prices, adds_samples, shared, steps_of
from hpa_bench.spec import RunOptions, RunSpec, make_spec
from hpa_bench.suite import TrainingConfig
from tests.support.suites import write_suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    training = {"batch_size": 2, "gradient_accumulation": 2, "epochs": 1.5, "learning_rate": 1e-3}
    return str(write_suite(tmp_path_factory.mktemp("suite"), training=training))


def spec(suite: str, method: str, **options: object) -> RunSpec:
    return make_spec(RunOptions(suite, method, **options))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "matrix"), [("seqft", "diagonal"), ("joint", "full"), ("zero_shot", "full")])
def test_steps_and_requests_are_those_of_the_run(method: str, matrix: str, suite: str, tmp_path: Path) -> None:
    settings = [f"evaluation.matrix={matrix}"]
    work = Prices("cpu").work(spec(suite, method, settings=settings))
    events = list(read_log(run(suite, method, settings=settings, out=tmp_path / "run", device="cpu").path / LOG))

    assert list(work.steps) == [row["steps"] for row in events if row["event"] == "trained"]
    answered = [sum(row["responses"].values()) for row in events if row["event"] == "generated"]  # type: ignore[attr-defined]
    assert answered == list(work.requests)


def test_tokens_are_those_of_the_samples(suite: str) -> None:
    asked = spec(suite, "seqft")
    work = Prices("cpu").work(asked)
    data, processor = RunData(asked, asked.suite.tasks), load_processor(asked.suite.model_path())

    exact = sum(
        training_batch(processor, [row])["input_ids"].shape[1] for rows in data.training.values() for row in rows
    )
    assert work.training_tokens == pytest.approx(1.5 * exact, abs=1)
    assert 0 < work.prompt_tokens < 100 * sum(work.requests) and work.new_tokens >= sum(work.requests)


@pytest.mark.parametrize(
    ("samples", "batch", "accumulation", "epochs", "steps"),
    [(100, 16, 1, 4, 28), (12, 2, 2, 1.5, 5), (12, 4, 1, 1, 3), (1, 16, 4, 1, 1), (100, 16, 4, 1, 2)],
)
def test_steps_of_a_stage(samples: int, batch: int, accumulation: int, epochs: float, steps: int) -> None:
    config = TrainingConfig(batch_size=batch, gradient_accumulation=accumulation, epochs=epochs)

    assert steps_of(samples, config) == steps


def test_memory_and_disk(suite: str) -> None:
    prices = Prices("cpu")
    tuned, none = prices.bytes_of(spec(suite, "seqft")), prices.bytes_of(spec(suite, "zero_shot"))
    moe = prices.bytes_of(spec(suite, "moelora"))

    assert tuned.weights == none.weights > 0 and (none.training, none.disk, none.kept) == (0, 0, 0)
    assert tuned.disk > tuned.kept > tuned.weights * 0.9, "a checkpoint stays, and is there twice in between"
    assert moe.kept < tuned.kept, "nothing is merged"


def test_what_is_shared_among_runs(suite: str, tmp_path: Path) -> None:
    options = [{"method": "seqft"}, {"method": "wise_ft"}, {"method": "l2"}, {"method": "seqft", "seed": 1}]
    options += [{"method": "zero_shot"}, {"method": "seqft", "order": "2,1"}]
    wanted = {
        tmp_path / str(number): spec(suite, str(each.pop("method")), **each) for number, each in enumerate(options)
    }

    answers, training = shared(wanted)

    assert {path.name for path in answers} == {"1", "2", "3", "4"}
    assert {path.name for path in training} == {"1"}


def test_who_adds_samples() -> None:
    assert {name for name in methods.names() if adds_samples(methods.get(name))} == {"derpp", "replay", "sefe"}
