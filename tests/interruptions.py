"""Runs in fresh processes that can be killed at a chosen place of a chosen stage; what goes on has the disk alone."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, Literal

from hpa_bench.runner import run as runner
from hpa_bench.runner.progress import Progress

Place = Literal["training", "edited", "adapted"]
"""Where a process is killed: `training`: after the third optimiser step; `edited`: after `edit_adapter`, before the
adapter and the method's state are saved; `adapted`: after `adapt` and the weights are saved, before the state is."""

# Children are forked from a server that has imported everything and run nothing.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["pytest", "tests.interruptions"])


def run_process(place: Place | None, stage: int, *arguments: Any, **options: Any) -> int:
    """Call `hpa_bench.run` in a fresh process and return its exit code, -9 where it was killed.

    Args:
        place: where to kill it; None lets it finish.
        stage: in which stage.
        arguments: of `hpa_bench.run`, as are `options`.
    """
    process = _processes.Process(target=_run, args=(place, stage, arguments, options))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(place: Place | None, stage: int, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    from hpa_bench import run

    # Trainer collects garbage after every training; without this it walks through every module that is imported.
    gc.freeze()
    save_state = runner._Run._save_state

    def save_state_or_die(self: Any, folder: Path) -> None:
        if (place, folder.name) in (("edited", "method"), ("adapted", "state")) and f"stage{stage}" in folder.parts:
            _die()
        save_state(self, folder)

    runner._Run._save_state = save_state_or_die  # type: ignore[method-assign]
    run(*arguments, **options, progress=_Deadly(place == "training", stage))


class _Deadly(Progress):
    """Kills the process at the end of the third training step of a stage."""

    def __init__(self, armed: bool, stage: int) -> None:
        super().__init__()
        self._armed = armed
        self._deadly = stage

    def step(self, name: str, done: int, total: int) -> None:
        if self._armed and (name, done, self._index) == ("train", 3, self._deadly):
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
