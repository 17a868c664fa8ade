"""When a run will be done, from what its stages have taken so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SET_UP = "set-up"
"""The step of stage 0 that is over before its first event."""
_SURE = 0.1
"""Share of a training from which on its own steps count, and not the pace of earlier stages."""
_MEASURED = 0.2
"""Share of a generation from which on its own pace counts, and not that of earlier stages."""


@dataclass
class Stage:
    """When things happened in the stage at work; seconds since 1970."""

    index: int
    tasks: Sequence[str]
    began: float
    trained: float | None = None
    """When the rest began: edit, generation, scoring."""
    first: tuple[int, float] | None = None
    """The first step of this attempt, and when it was done."""
    step: tuple[int, int] | None = None
    """Steps done, of how many."""
    stepped: float = 0.0
    loss: float | None = None
    asked: float | None = None
    """When generation began."""
    answered: tuple[int, int] | None = None
    """Requests done, of how many."""


@dataclass
class Course:
    """The stages of a run: what is over, what is at work, and what is still to come."""

    stages: int = 0
    """Training stages, T."""
    samples: Sequence[int] = ()
    """Training samples of stages 1, 2, ..."""
    stage: Stage | None = None
    """What is at work; None before the first."""
    spent: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Seconds of finished stages: of training, and of the rest."""

    def left(self, now: float) -> float | None:
        """Return the seconds that the run will still take; None while nothing is known to tell by.

        Training takes as long for a sample as it has taken, and the rest of a stage as long as that of the stages
        before.

        Args:
            now: seconds since 1970, by the clock of the machine that runs it.
        """
        if self.stage is None:
            return None
        later = range(self.stage.index + 1, self.stages + 1)
        rest, pace = self._rest(now), self._pace()
        if rest is None or (later and pace is None):
            return None
        training = sum((pace or 0.0) * self._samples(index) for index in later)
        if (current := self._training_left(now, pace)) is None:
            return None
        return current + self._rest_left(now, rest) + training + rest * len(later)

    def finish(self, seconds: Mapping[str, float], time: float) -> None:
        """Note what a stage took; of one that was begun before this attempt, what it has spent by its own count."""
        if (stage := self.stage) is None:
            return
        whole = max(time - stage.began, sum(spent for step, spent in seconds.items() if step != SET_UP))
        training = 0.0
        if stage.index:
            training = max((stage.trained or stage.began) - stage.began, seconds.get("train", 0.0))
        self.spent[stage.index] = training, whole - training
        # What is next begins at once: until the log says so, its time counts as that of a stage that is just beginning.
        if stage.index < self.stages:
            self.stage = Stage(stage.index + 1, (), time)

    def _samples(self, index: int) -> int:
        return self.samples[index - 1] if index <= len(self.samples) else 1

    def _pace(self) -> float | None:
        """Return the seconds of training a sample; None before there was any."""
        seconds = [spent for index, (spent, _) in self.spent.items() if index]
        samples = [self._samples(index) for index in self.spent if index]
        stage = self.stage
        if stage is not None and stage.index and (whole := self._training_of(stage, sure=bool(seconds))) is not None:
            seconds.append(whole)
            samples.append(self._samples(stage.index))
        return sum(seconds) / max(sum(samples), 1) if seconds else None

    def _training_of(self, stage: Stage, sure: bool) -> float | None:
        """Return what the training of the stage at work takes in all, by its own steps, or by enough to be sure."""
        if stage.trained is not None and stage.step is not None:
            return stage.trained - stage.began
        if stage.first is None or stage.step is None:
            return None
        (first, when), (done, total) = stage.first, stage.step
        if sure and done - first < _SURE * total:
            return None
        return (when - stage.began if not first else 0.0) + (stage.stepped - when) / max(done - first, 1) * total

    def _training_left(self, now: float, pace: float | None) -> float | None:
        """Return the seconds of training that the stage at work has left; None where nobody knows."""
        stage = self.stage
        if stage is None or not stage.index or stage.trained is not None or stage.asked is not None:
            return 0.0
        if stage.first is not None and stage.step is not None:
            (first, when), (done, total) = stage.first, stage.step
            each = (stage.stepped - when) / max(done - first, 1)
            if pace is not None and done - first < _SURE * total:
                each = pace * self._samples(stage.index) / total
            return max(0.0, each * (total - done) - (now - stage.stepped))
        if pace is None:
            return None
        return max(0.0, pace * self._samples(stage.index) - (now - stage.began))

    def _rest(self, now: float) -> float | None:
        """Return the seconds of a stage beside its training; None before any was measured."""
        later = [rest for index, (_, rest) in self.spent.items() if index]
        known = later or [rest for _, rest in self.spent.values()]
        if known:
            return sum(known) / len(known)
        stage = self.stage
        if stage is None or stage.asked is None or stage.answered is None or not stage.answered[0]:
            return None
        done, total = stage.answered
        return stage.asked - (stage.trained or stage.began) + (now - stage.asked) * total / done

    def _rest_left(self, now: float, rest: float) -> float:
        """Return the seconds that the stage at work has left beside its training."""
        stage = self.stage
        if stage is None:
            return rest
        since = stage.trained if stage.index else stage.began
        if stage.asked is not None and stage.answered is not None:
            done, total = stage.answered
            since = since if since is not None else stage.began
            if done >= _MEASURED * total > 0:
                # What follows generation, and what came before it, are known as parts of the rest of earlier stages.
                whole = (now - stage.asked) * total / done
                return max(whole - (now - stage.asked), rest - (now - since) if done == total else 0.0, 0.0)
        return rest if since is None else max(0.0, rest - (now - since))
