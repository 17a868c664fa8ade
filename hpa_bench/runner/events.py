"""What happens in a run, as plain data, and who is told.

A run emits events and knows nothing of who listens: the progress display, the run folder's log, a stranger's observer
(entry point `hpa_bench.observers`, or a file given by `--plugin`). In a run of several processes the first alone emits.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from hpa_bench.errors import UserError
from hpa_bench.machine.stopping import Stopped
from hpa_bench.redact import clean
from hpa_bench.registry import Registry

log = logging.getLogger(__name__)

LOG = "events.jsonl"
"""The run folder's log: one line an event, with its kind and its time; lines are only ever added."""
STOPPED = "stopped"
"""The reason of a run that somebody has asked to end: the same command goes on."""


_TAIL = 2**16
"""Bytes at the end of a log that hold its last event."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened."""

    kind: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """A comparison will have the run made; nothing of it is begun yet."""

    kind = "planned"
    suite: str
    method: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The run is set up: all data are checked and the model is loaded."""

    kind = "run"
    suite: str
    method: str
    seed: int
    folder: str
    stages: Sequence[Sequence[str]]
    """The tasks of stages 1, 2, ..."""
    finished: int
    """Stages that were finished before, stage 0 included."""
    engine: str
    why: str
    """Why this engine."""
    host: str = ""
    """The machine's name."""
    samples: Sequence[int] = ()
    """Training samples of stages 1, 2, ..., before the method adds its own."""


@dataclass(frozen=True, kw_only=True)
class AlignmentStarted(Event):
    """What an alignment names is checked, and nothing is loaded yet; its one training tells its steps as of stage 1."""

    kind = "alignment"
    model: str
    tasks: Sequence[str]
    folder: str


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """A stage begins; 0 is the aligned model."""

    kind = "stage"
    stage: int
    stages: int
    """Training stages in all, T."""
    tasks: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class TrainStep(Event):
    """An optimiser step is taken."""

    kind = "step"
    stage: int
    done: int
    total: int
    loss: float
    """The task loss of this step's samples, with the method's penalty."""
    learning_rate: float
    seconds: float
    """Of this step, and of what was read for it."""
    samples_per_second: float


@dataclass(frozen=True, kw_only=True)
class Reused(Event):
    """A piece of the stage's work is taken from a run that has done the same (`hpa_bench.runner.once`)."""

    kind = "reused"
    stage: int
    what: str
    """"training", "responses" or "verdicts"."""
    seconds: float
    """That it took the run which did it."""


@dataclass(frozen=True, kw_only=True)
class Trained(Event):
    """The training of a stage is over and its adapter edited; neither is saved yet."""

    kind = "trained"
    stage: int
    steps: int
    trainable_parameters: int


@dataclass(frozen=True, kw_only=True)
class Adapting(Event):
    """A method begins to edit the merged weights."""

    kind = "adapting"
    stage: int


@dataclass(frozen=True, kw_only=True)
class Adapted(Event):
    """A stage's weights are what the method makes of them; what it remembers of the stage is not saved yet."""

    kind = "adapted"
    stage: int


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """Something of a stage is whole on disk: "adapter", "weights" or "state"."""

    kind = "saved"
    stage: int
    what: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Generating(Event):
    """Some more requests of a stage's evaluation are answered; at 0, generation begins."""

    kind = "generating"
    stage: int
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Generated(Event):
    """Every request of a stage is answered and scored; nothing of it is saved yet."""

    kind = "generated"
    stage: int
    responses: Mapping[str, int]
    """The number of responses by set."""


@dataclass(frozen=True, kw_only=True)
class Judged(Event):
    """The judges have given their verdicts on a stage's responses."""

    kind = "judged"
    stage: int
    judges: Sequence[str]
    """By the names that their verdicts are stored under."""
    scores: Mapping[str, float]
    """Percent, by metric: the mean accuracy over tasks, and MASR by the first judge where there are safety sets."""


@dataclass(frozen=True, kw_only=True)
class StageFinished(Event):
    """Every step of a stage is done and saved."""

    kind = "stage_finished"
    stage: int
    seconds: Mapping[str, float]
    """By step, earlier attempts included, and what was taken from another run."""
    shared: Mapping[str, float] = field(default_factory=dict)
    """Those of them that another run has spent."""


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something went wrong, and the run goes on."""

    kind = "warning"
    text: str


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The run ends here; what is finished is kept."""

    kind = "failed"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """Every stage of the run is finished."""

    kind = "finished"
    seconds: float
    """Since this process began with the run."""


class Observer(ABC):
    """Is told of every event of the runs of this process. What it raises is warned about once and ends nothing.

    Registered, it listens to every run; it is made anew for each, without arguments.
    """

    name: ClassVar[str]
    """The entry point has the same name."""

    @abstractmethod
    def observe(self, event: Event) -> None:
        """Take notice of an event; the run waits meanwhile."""


observers: Registry[Observer] = Registry("observer", "hpa_bench.observers", Observer)  # type: ignore[type-abstract]


def registered() -> list[Observer]:
    """Return a new observer of every registered kind.

    Raises:
        UserError: one is broken.
    """
    return [observers.get(name)() for name in observers.names()]


class EventLog(Observer):
    """Adds every event to the run folder's log, as one line of JSON."""

    name = "log"

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG
        self._end = ""
        """Ends the torn last line that an earlier process left."""
        if self._path.exists() and self._path.read_bytes()[-1:] not in (b"\n", b""):
            self._end = "\n"

    def observe(self, event: Event) -> None:
        """Write one line."""
        row = {"event": event.kind, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **asdict(event)}
        with self._path.open("ab") as file:
            # One write, so that a killed process leaves at most one torn line, at the end.
            file.write(f"{self._end}{json.dumps(row, ensure_ascii=False)}\n".encode())
        self._end = ""


@dataclass
class Events:
    """Hands each event to every observer."""

    told: Sequence[Observer] = ()
    _warned: set[int] = field(default_factory=set)

    def emit(self, event: Event) -> None:
        """Tell all; one that raises is warned about once."""
        for observer in self.told:
            try:
                observer.observe(event)
            except Exception as error:
                if id(observer) not in self._warned:
                    self._warned.add(id(observer))
                    log.warning(
                        "The observer %s failed at the event %r and is told of further ones all the same: %s: %s",
                        type(observer).__name__, event.kind, type(error).__name__, error,
                    )  # fmt: skip

    def warn(self, text: str) -> None:
        """Tell all what goes wrong without ending the run."""
        self.emit(Warned(text=clean(text)))


@contextmanager
def told(events: Events) -> Iterator[None]:
    """Tell the observers why a run ends, where it does not finish."""
    try:
        yield
    except BaseException as error:
        known = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}".removesuffix(": ")
        stopped = isinstance(error, KeyboardInterrupt | Stopped)
        events.emit(Failed(reason=STOPPED if stopped else clean(known)))
        raise


def read_log(path: Path) -> Iterable[Mapping[str, object]]:
    """Yield the events of a run's log, a torn last line aside.

    Args:
        path: of the log; it need not exist.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def last_event(path: Path) -> str:
    """Return the kind of a log's last event; "" where there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return str(json.loads(line)["event"])
        except (ValueError, KeyError, TypeError):  # Torn, or the end of a line that is longer.
            continue
    return ""
