"""Short runs on this machine that tell how long whole ones take: a few steps, an edit and some generations each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import torch

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import make_launcher
from hpa_bench.models.loading import checkpoint_folder
from hpa_bench.models.shape import draw_weights
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.events import LOG, read_log
from hpa_bench.runner.launch import launch

if TYPE_CHECKING:
    from hpa_bench.runner.price import Work
    from hpa_bench.spec import RunSpec
    from hpa_bench.suite import Suite

STEPS, BATCHES, STAGES = 8, 2, 2
"""Of a probe: optimiser steps of a stage at least, batches of an evaluation, tasks that are trained. Penalties that
need an earlier task are there in the second."""
STAGE = ("adapt", "save", "measure", "load")
"""What every stage takes once, whatever its number of samples."""


@dataclass(frozen=True)
class Pace:
    """How long the parts of a run take, in seconds."""

    start: float
    """Of a run's process, until its first stage, and at its end."""
    first_step: float
    """An optimiser step of the first stage."""
    step: float
    """One of a later stage."""
    training: float
    """Of a stage's training beside its steps."""
    stage: float
    """Of a stage: the edit, writing and loading weights, measuring the update."""
    request: float
    """A request, generated and scored."""
    peak_memory: int
    """Bytes at the peak of a stage: on the GPU, or of the process."""
    state: int
    """Bytes that the method remembers after the last of its stages."""

    def seconds(self, work: Work, takes_answers: bool = False, takes_training: bool = False) -> float:
        """Return what a run takes.

        Args:
            work: what it does.
            takes_answers: whether stage 0 comes from another run.
            takes_training: whether the first task's training does.
        """
        first, later = sum(work.steps[:1]), sum(work.steps[1:])
        trainings = len(work.steps) - takes_training
        training = (0 if takes_training else first * self.first_step) + later * self.step + trainings * self.training
        requests = sum(work.requests[takes_answers:])
        return self.start + training + len(work.steps) * self.stage + requests * self.request


def measure(spec: RunSpec, folder: Path, device: str) -> Pace:
    """Make a short run of a spec's method and model, and return its pace.

    Args:
        spec: the run whose pace is asked for.
        folder: a folder for the probe's files, which may be removed afterwards.
        device: cpu, cuda, or "auto".

    Raises:
        UserError: the short run failed; the message says why.
    """
    short = shortened(spec, folder)
    run = RunFolder(folder / "run")
    began = time.perf_counter()
    for _, reason in launch({run.path: short}, make_launcher("local:slots=1"), device):
        if reason:
            raise UserError(reason)
    return pace_of(run, time.perf_counter() - began)


def shortened(spec: RunSpec, folder: Path) -> RunSpec:
    """Return the probe of a run: two of its tasks, few samples, judged by words alone; its calibration is whole.

    A model whose weights are not here is drawn at random in its shape, below the folder. A share of harmful pairs is at
    least one of the few samples.
    """
    suite = spec.suite
    step = suite.training.batch_size * suite.training.gradient_accumulation
    tasks = suite.tasks[:STAGES]
    sets = len(tasks) + len(suite.safety_sets) + len(suite.benign_sets)
    asked = ceil(BATCHES * suite.evaluation.batch_size / max(sets, 1))
    samples = max(STEPS * step, suite.calibration.task_samples)
    limit = min(samples, suite.training.limit or samples)
    training = {"epochs": 1.0, "limit": limit}
    evaluation = {"limit": min(asked, suite.evaluation.limit or asked)}
    changed: dict[str, Any] = {
        "tasks": tasks,
        "judges": ["keyword"],
        "training": suite.training.model_copy(update=training),
        "evaluation": suite.evaluation.model_copy(update=evaluation),
        "model": _model(suite, folder),
    }
    ratio = max(spec.harmful_ratio, 1 / limit) if spec.harmful_ratio else 0.0
    return replace(spec, suite=suite.model_copy(update=changed), harmful_ratio=ratio, noise=0)


def _model(suite: Suite, folder: Path) -> str:
    """Return the suite's model, or one of its shape where its weights are not here."""
    name = suite.model_path()
    here = checkpoint_folder(name, weights=())
    if any(here.glob("*.safetensors")):
        return str(here)
    dtype = torch.bfloat16 if suite.training.dtype != "float32" else torch.float32
    return str(draw_weights(here, folder / "model", dtype))


def pace_of(run: RunFolder, wall: float) -> Pace:
    """Return the pace of a finished run.

    Args:
        run: the run.
        wall: the seconds of its whole command.
    """
    costs = [stage.cost for stage in run.finished_stages()]
    spent = [cost["seconds"] for cost in costs]
    events: list[Mapping[str, Any]] = list(read_log(run.path / LOG))
    steps = [_steps(events, stage) for stage in range(1, len(costs))]
    usual = [median(seconds[1:] or seconds) for seconds in steps]
    beside = [cost["train"] - each * len(taken) for cost, taken, each in zip(spent[1:], steps, usual, strict=True)]
    requests = sum(sum(row["responses"].values()) for row in events if row["event"] == "generated")
    return Pace(
        start=max(0.0, wall - sum(sum(seconds.values()) for seconds in spent)) + _sum(spent, ("set-up", "start")),
        first_step=usual[0] if usual else 0.0,
        step=usual[-1] if usual else 0.0,
        training=max(0.0, mean(beside)) if beside else 0.0,
        stage=_sum(spent[1:], STAGE) / max(len(spent) - 1, 1),
        request=_sum(spent, ("generate", "score")) / max(requests, 1),
        peak_memory=max(cost.get("peak_memory_bytes", 0) for cost in costs),
        state=costs[-1].get("state_bytes", 0),
    )


def _steps(events: Sequence[Mapping[str, Any]], stage: int) -> list[float]:
    return [float(row["seconds"]) for row in events if row["event"] == "step" and row["stage"] == stage]


def _sum(spent: Sequence[Mapping[str, float]], steps: Sequence[str]) -> float:
    return sum(seconds.get(step, 0.0) for seconds in spent for step in steps)
