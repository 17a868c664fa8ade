"""What a method sees of a stage: weights, samples and calibration data, each made when it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from hpa_bench.engines.hf import HFEngine
from hpa_bench.method import StageContext
from hpa_bench.models.loading import checkpoint_folder
from hpa_bench.models.weights import Checkpoint, load_into
from hpa_bench.runner.inputs import safety_calibration, task_calibration
from hpa_bench.runner.kept import CALIBRATION

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample
    from hpa_bench.models.prompts import Batch
    from hpa_bench.models.weights import Weights
    from hpa_bench.runner.setup import Setup

log = logging.getLogger(__name__)

CALIBRATION_BATCH = 16
"""Calibration samples of one forward pass."""


def batches(samples: Sequence[Sample], collate: Callable[[Sequence[Sample]], Batch]) -> list[Batch]:
    """Return the model inputs of calibration samples, some together."""
    groups = [samples[at : at + CALIBRATION_BATCH] for at in range(0, len(samples), CALIBRATION_BATCH)]
    return [collate(group) for group in groups]


class Contexts:
    """Makes the context of each stage of a run."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._suite = setup.spec.suite
        self._base = setup.base
        self._calibrated: dict[int, list[Sample]] = {}
        """Safety calibration samples, by how many were asked for."""

    def of(self, index: int) -> StageContext:
        """Return a stage's context; stage 0 is the aligned model."""
        setup = self._setup
        before = setup.run.stage(index - 1).weights
        seen = {task for tasks in setup.stages[:index] for task in tasks}
        return StageContext(
            stage=index,
            stages=len(setup.stages),
            tasks=tuple(setup.stages[index - 1]) if index else (),
            seed=setup.spec.seed,
            device=setup.device,
            lora=self._suite.lora.beside(self._suite.training.also),
            model=self._base.model,
            decoder=self._base.decoder,
            start=self._base.start,
            before=Checkpoint(before, self._base.model) if before.exists() else self._base.start,
            unaligned=self._unaligned,
            folder=setup.run.path / "method",
            safety_calibration=lambda count=None: self._batches(self._safety_samples(count)),
            task_calibration=lambda: self.task_batches(index),
            samples={task: setup.data.training[task] for task in seen}.__getitem__,
            safety_data=lambda: setup.data.safety_data,
            collate=self._batch,
        )

    def training_samples(self, index: int) -> list[Sample]:
        """Return the training samples of a stage's tasks, in the order of its tasks."""
        tasks = self._setup.stages[index - 1] if index else ()
        return [sample for task in tasks for sample in self._setup.data.training[task]]

    def task_batches(self, index: int, count: int | None = None) -> list[Batch]:
        """Return model inputs of a stage's task calibration samples, or of the first `count` of them."""
        return self._batches(self._task_samples(index)[:count])

    @cached_property
    def _unaligned(self) -> Weights | None:
        name = self._suite.unaligned_model
        return Checkpoint(checkpoint_folder(self._suite.model_path(name)), self._base.model) if name else None

    def _safety_samples(self, count: int | None) -> list[Sample]:
        wanted = self._suite.calibration.safety_samples if count is None else count
        if wanted not in self._calibrated:
            self._calibrated[wanted] = found = self._answered(wanted)
            if count is not None and len(found) < count:
                log.warning(
                    "%s asks for %d safety calibration samples and gets %d: the aligned model refuses no more of the %d"
                    " requests of %s.",
                    *(self._setup.spec.method.name, count, len(found)),
                    *(len(self._setup.data.safety_source), self._suite.calibration.safety_set),
                )
        return self._calibrated[wanted]

    def _answered(self, count: int) -> list[Sample]:
        setup, base = self._setup, self._base
        # By Hugging Face whatever the engine: what is trained must not depend on who generates in evaluation.
        engine = HFEngine(base.model, base.processor, batch_size=self._suite.evaluation.batch_size)

        def answer_as_aligned(samples: Sequence[Sample]) -> list[str]:
            load_into(base.model, base.start)
            return setup.evaluator.answer(engine, samples)

        folder = CALIBRATION if count == self._suite.calibration.safety_samples else f"{CALIBRATION}-{count}"
        path = setup.run.path / folder / "safety.jsonl"
        return safety_calibration(path, setup.data.safety_source, count, answer_as_aligned)

    def _task_samples(self, index: int) -> list[Sample]:
        samples = self.training_samples(index)
        return task_calibration(samples, self._suite.calibration.task_samples, self._setup.spec.seed, index)

    def _batches(self, samples: Sequence[Sample]) -> list[Batch]:
        return batches(samples, self._batch)

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        return self._base.batch(samples, self._setup.device)
