"""Events of real small runs: what observers are told, and that none of them can hurt."""

import json
from pathlib import Path

import pytest

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.runner.events import (
    LOG,
    Event,
    Failed,
    Finished,
    Generating,
    Judged,
    Observer,
    Saved,
    StageFinished,
    StageStarted,
    TrainStep,
    observers,
    read_log,
)
from tests.support.suites import write_suite

pytestmark = pytest.mark.slow


class Notes(Observer):
    """Keeps all that it is told."""

    name = "notes"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


class Broken(Observer):
    """Raises at everything."""

    name = "broken"

    def observe(self, event: Event) -> None:
        raise RuntimeError("no")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    training = {"learning_rate": 1e-2, "batch_size": 4, "epochs": 1, "scheduler": "constant", "warmup_ratio": 0}
    return str(write_suite(tmp_path_factory.mktemp("suite"), training=training))


def test_a_run_tells_what_happens_in_order_and_its_log_has_the_same(suite: str, tmp_path: Path) -> None:
    notes = Notes()
    done = run(suite, "seqft", out=tmp_path / "run", observers=[notes])

    kinds = [event.kind for event in notes.events]
    assert kinds[0] == "run" and kinds[-1] == "finished"
    outline = list(dict.fromkeys(kinds[1:]))
    assert outline[:4] == ["stage", "generating", "generated", "judged"]
    assert [event.stage for event in notes.of(StageStarted)] == [0, 1, 2]
    assert [event.what for event in notes.of(Saved)] == ["adapter", "weights", "state"] * 2
    steps = [event for event in notes.of(TrainStep) if event.stage == 1]
    assert [step.done for step in steps] == list(range(1, steps[-1].total + 1))
    assert all(step.learning_rate == 1e-2 and step.seconds > 0 for step in steps)
    assert all(abs(step.samples_per_second * step.seconds - 4) < 1e-6 for step in steps)
    assert steps[0].loss > steps[-1].loss > 0
    assert [event.done == event.total for event in notes.of(Generating)][-1]
    scores = json.loads((done.stage(2).path / "scores.json").read_text())
    masr = next(row["value"] for row in scores if row["metric"] == "masr" and row["judge"] == "keyword")
    assert notes.of(Judged)[-1].scores["masr"] == masr
    assert notes.of(StageFinished)[-1].seconds == done.stage(2).cost["seconds"]

    logged = list(read_log(done.path / LOG))
    assert [row["event"] for row in logged] == kinds
    assert [row["loss"] for row in logged if row["event"] == "step"] == [step.loss for step in notes.of(TrainStep)]


def test_an_observer_that_raises_is_warned_about_once_and_ends_nothing(
    suite: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes()
    done = run(suite, "zero_shot", out=tmp_path / "run", observers=[Broken(), notes])

    assert len(done.finished_stages()) == 1 and notes.of(Finished)
    said = [record.getMessage() for record in caplog.records if "Broken" in record.getMessage()]
    assert len(said) == 1 and "RuntimeError: no" in said[0]


def test_a_registered_observer_hears_every_run_and_why_one_ends(suite: str, tmp_path: Path) -> None:
    heard: list[Event] = []

    class Listener(Observer):
        """Shares what it hears."""

        name = "listener"

        def observe(self, event: Event) -> None:
            heard.append(event)

    observers.add(Listener, "listener")
    with pytest.raises(UserError, match="loss became"):
        run(suite, "seqft", settings=["training.learning_rate=1e30", "training.max_grad_norm=1e30"], out=tmp_path / "a")

    (failed,) = [event for event in heard if isinstance(event, Failed)]
    assert "loss became" in failed.reason and heard[-1] is failed


def test_a_torn_last_line_of_a_log_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"event": "run"}\n{"event": "st')

    assert [row["event"] for row in read_log(tmp_path / LOG)] == ["run"]
    assert list(read_log(tmp_path / "none")) == []
