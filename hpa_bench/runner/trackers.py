"""Runs in an experiment tracker: TensorBoard, Trackio, W&B, MLflow and whichever else accelerate speaks to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpa_bench.config import split_settings
from hpa_bench.errors import UserError, unknown
from hpa_bench.files import read_json
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import flat
from hpa_bench.runner.events import Event, Failed, Finished, Observer, RunStarted, StageFinished, TrainStep

PROJECT = "hpa-bench"


def _named(name: str, group: str) -> dict[str, dict[str, Any]]:
    """Return how each tracker is told a run's name and group, where it can be; one that goes on stays one run."""
    again = {"resume": "allow"}
    return {
        "wandb": {"name": name, "group": group, "id": hashlib.sha256(f"{group}/{name}".encode()).hexdigest()[:16]}
        | again,
        "trackio": {"name": name, "group": group} | again,
        "mlflow": {"run_name": name, "tags": {"group": group}},
        "swanlab": {"experiment_name": name, "group": group},
        "clearml": {"task_name": f"{group}/{name}"},
        "comet_ml": {"experiment_key": hashlib.sha256(f"{group}/{name}".encode()).hexdigest()[:40]},
    }


TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "comet_ml", "swanlab", "clearml", "aim", "dvclive")
"""Those of accelerate, each by the name of its package."""


def check_tracker(text: str) -> tuple[str, dict[str, Any]]:
    """Return the tracker that `--track` names, and its options.

    Raises:
        UserError: there is none of this name, or it is not installed.
    """
    kind, options = split_settings(text)
    if kind not in TRACKERS:
        raise unknown("tracker", kind, TRACKERS, "in --track")
    if find_spec(kind) is None:
        raise UserError(f"Tracker {kind!r} is not installed: run `pip install {kind.replace('_', '-')}`.")
    return kind, options


class Tracking(Observer):
    """Hands a run's numbers to a tracker: every step's loss and rate, every stage's scores and costs.

    Args:
        text: the tracker, options after colons as in `wandb:project=mine`; `project` and, of TensorBoard, `folder` are
            ours, the others go to the tracker as they are.

    Raises:
        UserError: there is no such tracker, or it is not installed.
    """

    name = "tracking"

    def __init__(self, text: str) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        self._kind, options = check_tracker(text)
        self._class: Callable[..., Any] = LOGGER_TYPE_TO_CLASS[self._kind]
        self._project = str(options.pop("project", PROJECT))
        self._folder = str(options.pop("folder", self._kind))
        self._options = dict(options)
        self._tracker: Any = None
        self._run = RunFolder(Path())
        self._before: dict[int, int] = {}
        """Optimiser steps of all stages before one."""
        self._last = 0

    def observe(self, event: Event) -> None:
        """Hand on what happened."""
        match event:
            case RunStarted():
                self._open(event)
            case TrainStep() if self._tracker:
                self._last = self._steps_before(event.stage) + event.done
                values = {"train/loss": event.loss, "train/learning_rate": event.learning_rate}
                values |= {"train/samples_per_second": event.samples_per_second, "stage": event.stage}
                self._tracker.log(values, step=self._last)
            case StageFinished() if self._tracker:
                # What comes from another run has no steps here, and still counts.
                self._last = max(self._last, self._steps_before(event.stage + 1))
                self._tracker.log(stage_values(self._run, event.stage), step=self._last)
            case Finished() | Failed() if self._tracker:
                self._tracker.finish()
                self._tracker = None

    def _open(self, event: RunStarted) -> None:
        self._run, self._before = RunFolder(Path(event.folder)), {}
        manifest = self._run.manifest
        name = f"{self._run.path.parent.name}/{self._run.path.name}"
        own = _named(name, event.suite).get(self._kind, {}) | self._options
        if self._class.requires_logging_directory:  # type: ignore[attr-defined]
            # Of these the folder is the group.
            self._tracker = self._class(f"{event.suite}/{name}", self._folder, **own)
        else:
            self._tracker = self._class(self._project, **own)
        self._tracker.start()
        self._tracker.store_init_configuration(described(manifest))

    def _steps_before(self, stage: int) -> int:
        if stage not in self._before:
            self._before[stage] = sum(int(self._run.stage(each).cost.get("steps", 0)) for each in range(1, stage))
        return self._before[stage]


def described(manifest: Manifest) -> dict[str, Any]:
    """Return what was run, one plain value a name."""
    found = {"method": manifest.method, "seed": manifest.seed, "noise": manifest.noise, "suite": manifest.suite}
    found |= {"suite_version": manifest.suite_version, "harmful_ratio": manifest.harmful_ratio}
    found |= {"order": ",".join(manifest.tasks), "commit": manifest.git_commit or ""}
    values = flat(manifest.config, f"{manifest.method}.") | flat(manifest.training, "training.")
    return found | {key: value if isinstance(value, int | float | str) else str(value) for key, value in values.items()}


def stage_values(run: RunFolder, index: int) -> dict[str, float]:
    """Return a stage's row of the accuracy matrix, its safety and its costs, by names with slashes.

    Args:
        run: the run.
        index: the stage, finished.
    """
    stage = run.stage(index)
    rows: list[Mapping[str, Any]] = read_json(stage.path / "scores.json")
    found = {"/".join(part for part in _path(row) if part): float(row["value"]) for row in rows}
    cost = stage.cost
    found |= {f"seconds/{step}": float(seconds) for step, seconds in cost["seconds"].items()}
    return found | {"peak_memory_bytes": float(cost.get("peak_memory_bytes", 0)), "stage": float(index)}


def _path(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["kind"], row["metric"], row["set"], row["judge"]
