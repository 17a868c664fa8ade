"""What runs come to before they are made: optimiser steps, requests, tokens, disk and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpa_bench.machine.disk import ADAPTER, TRAINER, peak_bytes
from hpa_bench.method import Method, methods
from hpa_bench.metrics import scored_tasks
from hpa_bench.models.loading import checkpoint_folder, load_processor
from hpa_bench.models.prompts import prompt_ids, render_prompt, training_batch
from hpa_bench.models.shape import Shape, shape_of
from hpa_bench.runner.evaluation import request_limits
from hpa_bench.runner.inputs import RunData
from hpa_bench.runner.once import trains_alike
from hpa_bench.suite import DecoderConfig, TrainingConfig

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample
    from hpa_bench.spec import RunSpec
    from hpa_bench.suite import Suite

LOOKED_AT = 16
"""Samples of a set whose tokens are counted; the others are taken to be as long."""


@dataclass(frozen=True)
class Work:
    """What one run does by its suite's recipe; samples that a method adds are not in it."""

    steps: tuple[int, ...]
    """Optimiser steps of stages 1, 2, ..."""
    training_tokens: int
    """Tokens that training reads, of all stages and epochs."""
    requests: tuple[int, ...]
    """Of each evaluation: before the first stage, and after every stage."""
    prompt_tokens: int
    """Of all requests, those of images left out."""
    new_tokens: int
    """That all requests are answered by at most."""


@dataclass(frozen=True)
class Bytes:
    """What a run of a suite takes of memory and disk; activations and what a method remembers come on top."""

    weights: int
    """The frozen model, in memory."""
    training: int
    """Adapters in float32, their gradients and AdamW's two moments, in memory."""
    disk: int
    """On disk at the fullest."""
    kept: int
    """On disk once the run is finished."""


class Prices:
    """What runs come to; data and model are looked at once for all runs that share them.

    Args:
        device: the torch device that they would run on.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._data: dict[str, RunData] = {}
        self._models: dict[str, _Model] = {}
        self._works: dict[str, Work] = {}

    def work(self, spec: RunSpec) -> Work:
        """Return what a run does.

        Raises:
            UserError: bad data, or no model.
        """
        key = json.dumps([spec.suite.model_dump(mode="json"), spec.stages, bool(spec.harmful_ratio)])
        if key not in self._works:
            self._works[key] = self._counted(spec)
        return self._works[key]

    def bytes_of(self, spec: RunSpec) -> Bytes:
        """Return what a run takes of memory and disk."""
        suite, model = spec.suite, self._model(spec.suite)
        trained = model.shape.trained(suite.lora.rank)
        stages, mergeable = len(spec.stages), spec.method.mergeable
        size = 2 if suite.training.precision(self._device) == "bfloat16" else 4
        keep = suite.training.keep_weights
        stays = (stages if keep else min(stages, 1)) * ((model.bytes if mergeable else 0) + trained * ADAPTER)
        return Bytes(
            weights=model.shape.parameters * size,
            training=trained * (ADAPTER + TRAINER) if stages else 0,
            disk=peak_bytes(model.bytes, trained, stages, mergeable, keep),
            kept=stays,
        )

    def _counted(self, spec: RunSpec) -> Work:
        suite, model = spec.suite, self._model(spec.suite)
        data = self._data_of(spec)
        trained = {task: _mean(model.training_tokens(rows)) for task, rows in data.training.items()}
        steps, tokens = [], 0.0
        for tasks in spec.stages:
            steps.append(steps_of(sum(len(data.training[task]) for task in tasks), suite.training))
            tokens += suite.training.epochs * sum(len(data.training[task]) * trained[task] for task in tasks)
        judged = suite.judged_sets
        stages = range(len(spec.stages) + 1)
        matrix = suite.evaluation.matrix
        asked = [[*scored_tasks(matrix, stage, spec.stages, suite.tasks), *judged] for stage in stages]
        longest = {name: request_limits(task.config.generation_kwargs)[0] for name, task in data.evaluated.items()}
        prompt = {name: _mean(model.prompt_tokens(rows)) for name, rows in data.samples.items()}
        count = {name: len(rows) for name, rows in data.samples.items()}
        return Work(
            steps=tuple(steps),
            training_tokens=round(tokens),
            requests=tuple(sum(count[name] for name in sets) for sets in asked),
            prompt_tokens=round(sum(count[name] * prompt[name] for sets in asked for name in sets)),
            new_tokens=sum(count[name] * longest[name] for sets in asked for name in sets),
        )

    def _data_of(self, spec: RunSpec) -> RunData:
        # As sequential tuning reads it: what other methods need beside is never evaluated, nor trained by steps.
        plain = methods.get("seqft")
        asked = replace(spec, method=plain, config=plain.Config(), seed=0, noise=0)
        tasks = sorted({task for stage in spec.stages for task in stage})
        suite = spec.suite.model_dump(mode="json")
        key = json.dumps([suite | {"tasks": sorted(suite["tasks"])}, tasks, bool(spec.harmful_ratio)])
        if key not in self._data:
            self._data[key] = RunData(asked, tasks)
        return self._data[key]

    def _model(self, suite: Suite) -> _Model:
        key = json.dumps(
            [suite.model_path(), str(suite.chat_template_path()), suite.decoder and suite.decoder.model_dump()]
        )
        if key not in self._models:
            self._models[key] = _Model(suite)
        return self._models[key]


class _Model:
    """What is known of a suite's model without its weights."""

    def __init__(self, suite: Suite) -> None:
        self._folder = checkpoint_folder(suite.model_path(), weights=())
        self._suite = suite

    @cached_property
    def shape(self) -> Shape:
        decoder = self._suite.decoder or DecoderConfig()
        return shape_of(self._folder, decoder.blocks, decoder.layers)

    @cached_property
    def bytes(self) -> int:
        """Of its checkpoint, by its files or, where they are not here, in 16 bits."""
        return sum(file.stat().st_size for file in self._folder.glob("*.safetensors")) or 2 * self.shape.parameters

    @cached_property
    def _processor(self) -> Any:
        return load_processor(self._folder, self._suite.chat_template_path())

    def training_tokens(self, samples: Sequence[Sample]) -> list[int]:
        """Return the tokens of the first few samples, each with its answers."""
        return [training_batch(self._processor, [sample])["input_ids"].shape[1] for sample in samples[:LOOKED_AT]]

    def prompt_tokens(self, samples: Sequence[Sample]) -> list[int]:
        """Return the tokens of the first few prompts, those of their images left out."""
        return [
            len(prompt_ids(self._processor, render_prompt(self._processor, sample.prompt)))
            for sample in samples[:LOOKED_AT]
        ]


def steps_of(samples: int, config: TrainingConfig) -> int:
    """Return the optimiser steps of a stage, as Trainer counts them in one process."""
    batches = ceil(samples / config.batch_size)
    per_epoch = max(ceil(batches / config.gradient_accumulation), 1)
    return ceil(config.epochs * per_epoch)


def adds_samples(method: type[Method]) -> bool:
    """Whether a method may train on more than its tasks' own samples."""
    return method.training_data is not Method.training_data


def shared(wanted: Mapping[Path, RunSpec]) -> tuple[set[Path], set[Path]]:
    """Return the runs that take stage 0 from another of these, and those that take the first task's training."""
    evaluated: set[str] = set()
    trained: set[str] = set()
    take_answers: set[Path] = set()
    take_training: set[Path] = set()
    for folder, spec in wanted.items():
        suite = spec.suite.model_dump(mode="json")
        key = json.dumps({name: value for name, value in suite.items() if name not in ("training", "lora")})
        if key in evaluated:
            take_answers.add(folder)
        evaluated.add(key)
        if not spec.stages or not trains_alike(spec.method):
            continue
        first = [suite["training"], suite["lora"], suite["model"], spec.seed, spec.noise, spec.harmful_ratio]
        key = json.dumps([first, spec.stages[0]])
        if key in trained:
            take_training.add(folder)
        trained.add(key)
    return take_answers, take_training


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
