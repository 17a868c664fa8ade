"""Runs in fresh processes that can be killed at a chosen place of a chosen stage; what goes on has the disk alone."""

from __future__ import annotations

import gc
import os
import signal
from typing import Any, Literal

from hpa_bench.runner.events import Adapted, Event, Observer, Trained, TrainStep
from tests.support.faults import processes

Place = Literal["training", "edited", "adapted"]
"""Where a process is killed: `training`: after the third optimiser step; `edited`: after `edit_adapter`, before the
adapter and the method's state are saved; `adapted`: after `adapt` and the weights are saved, before the state is."""


def run_process(place: Place | None, stage: int, *arguments: Any, **options: Any) -> int:
    """Call `hpa_bench.run` in a fresh process and return its exit code, -9 where it was killed.

    Args:
        place: where to kill it; None lets it finish.
        stage: in which stage.
        arguments: of `hpa_bench.run`, as are `options`.
    """
    process = processes.Process(target=_run, args=(place, stage, arguments, options))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(place: Place | None, stage: int, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    from hpa_bench import run

    # Trainer collects garbage after every training; without this it walks through every module that is imported.
    gc.freeze()
    run(*arguments, **options, observers=[_Deadly(place, stage)])


class _Deadly(Observer):
    """Kills the process at a place of a stage."""

    def __init__(self, place: Place | None, stage: int) -> None:
        self._place = place
        self._stage = stage

    def observe(self, event: Event) -> None:
        match event:
            case TrainStep(done=3):
                here = "training"
            case Trained():
                here = "edited"
            case Adapted():
                here = "adapted"
            case _:
                return
        if (here, event.stage) == (self._place, self._stage):
            os.kill(os.getpid(), signal.SIGKILL)
