"""The loop over stages: train, merge, adapt, save, evaluate, record. A killed run goes on where it stopped."""

from __future__ import annotations

import logging
import random
import resource
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from hpa_bench.engines.base import Engine, engines
from hpa_bench.engines.choice import choose
from hpa_bench.engines.hf import HFEngine
from hpa_bench.engines.sharded import ShardedEngine
from hpa_bench.errors import UserError
from hpa_bench.files import atomic, write_json, write_jsonl
from hpa_bench.judges.base import make_judge
from hpa_bench.machine.device import choose_device, explained_shortage
from hpa_bench.machine.disk import check_space, peak_bytes
from hpa_bench.machine.processes import barrier, from_main, is_main, processes, together
from hpa_bench.method import Method, StageContext
from hpa_bench.models.activations import ActivationStream
from hpa_bench.models.decoder import linear_layers, set_decoder
from hpa_bench.models.loading import checkpoint_folder, load_model
from hpa_bench.models.prompts import check_template, training_batch
from hpa_bench.models.weights import Checkpoint, Merged, load_into, overlaid, write_checkpoint
from hpa_bench.results.run_folder import RunFolder, StageFolder
from hpa_bench.runner.environment import IDENTITY, make_manifest
from hpa_bench.runner.evaluation import Evaluator
from hpa_bench.runner.inputs import RunData, safety_calibration
from hpa_bench.runner.judging import judge_stage
from hpa_bench.runner.progress import Progress
from hpa_bench.runner.training import share_of_step, train
from hpa_bench.seeds import derive_seed
from hpa_bench.spec import RunSpec, engine_config

if TYPE_CHECKING:
    from torch import Tensor

    from hpa_bench.data.samples import Sample
    from hpa_bench.models.prompts import Batch
    from hpa_bench.models.weights import Weights
    from hpa_bench.runner.evaluation import Response

log = logging.getLogger(__name__)

CALIBRATION_BATCH = 16
"""Calibration samples of one forward pass."""


def execute(spec: RunSpec, folder: Path, device: str = "auto", progress: Progress | None = None) -> RunFolder:
    """Run, or finish, one run. Launched as several processes, all call this and the first alone writes.

    Args:
        spec: what to run.
        folder: the run's own folder.
        device: cpu, cuda, or "auto" for a GPU where there is one.
        progress: where progress is shown, by the first process.

    Raises:
        UserError: bad input, found before training starts; or the loss became NaN. The finished stages are kept, and
            the reason is in the run's FAILED file.
    """
    device = choose_device(device, spec.suite.name, spec.suite.gpu)
    share_of_step(spec.suite.training)
    run = RunFolder(folder)
    main = is_main()
    with together(device, run.note_failure) as device, run.locked() if main else nullcontext():
        current = _Run(spec, run, device, (main and progress) or Progress())
        current.prepare()
        with closing(current.engine), run.recording_failure() if main else nullcontext():
            current.execute()
    return run


class _Run:
    """One run in progress. A step whose result is in the run folder is not taken again."""

    def __init__(self, spec: RunSpec, run: RunFolder, device: str, progress: Progress) -> None:
        self.spec = spec
        self.suite = spec.suite
        self.run = run
        self.device = device
        self.progress = progress
        self.method: Method = spec.method(spec.config)
        self.stages = [tuple(tasks) for tasks in self.method.curriculum(self.suite.tasks)]

    def prepare(self) -> None:
        """Load and check everything; nothing is written before the folder is known to be this run's."""
        started = time.perf_counter()
        if self.device == "cpu" and self.suite.cpu_threads:
            torch.set_num_threads(self.suite.cpu_threads)
        self._check_engine()
        self.data = RunData(self.spec, [task for tasks in self.stages for task in tasks])
        dtype = self.suite.training.precision(self.device)
        source = checkpoint_folder(self.suite.model_path())
        template = self.suite.chat_template_path()
        self.model, self.processor = load_model(source, self.device, dtype, template)
        # A template that cannot be trained on is refused before any time is spent.
        check_template(self.processor, chain(*self.data.training.values(), self.data.safety_data))
        if (decoder := self.suite.decoder) is not None:
            set_decoder(self.model, decoder.blocks, decoder.layers)
        self.start = Checkpoint(source, self.model)
        self.layers = linear_layers(self.model)
        self._check_calibration()
        if is_main():
            self.run.claim(make_manifest(self.spec, self.stages, self.data, self.device), IDENTITY)
        evaluation = self.suite.evaluation
        self.hf = HFEngine(self.model, self.processor, batch_size=evaluation.batch_size)
        self.engine = self._engine(evaluation.engine)
        self.evaluator = Evaluator(self.data.evaluated, limit=evaluation.limit)
        self.judges = [make_judge(judge) for judge in self.suite.judges]
        if is_main():
            self._check_space()
            self.run.stage(0).add_cost(seconds={"set-up": time.perf_counter() - started})

    def _check_engine(self) -> None:
        """Refuse an engine of one process where several were launched, before anything is read."""
        asked = self.suite.evaluation.engine
        if processes() == 1:
            return
        # Several processes decide `auto` whatever the model's size.
        name, _ = choose(
            asked, mergeable=self.method.mergeable, device=self.device, parameters=0, processes=processes()
        )
        if not issubclass(engines.get(name), HFEngine):
            raise UserError(
                f"evaluation.engine={asked} generates in one process only and {processes()} were launched: launch one,"
                " or set evaluation.engine=hf, which shares the requests out."
            )

    def _check_space(self) -> None:
        """Check that the disk has room for what this run will write, less what an earlier attempt left."""
        shapes = [self.model.get_submodule(name).weight.shape for block in self.layers for name in block]
        needed = peak_bytes(
            checkpoint=self.start.file_bytes,
            trainable=sum(self.suite.lora.rank * sum(shape) for shape in shapes),
            stages=len(self.stages),
            mergeable=self.method.mergeable,
        )
        stages = [self.run.stage(index) for index in range(1, len(self.stages) + 1)]
        check_space(self.run.path, needed, [path for s in stages for path in (s.weights, s.adapter, s.trainer)])

    def _check_calibration(self) -> None:
        """Refuse a model that cannot be calibrated block by block before any time is spent on training it."""
        if {"task_calibration", "safety_calibration"} & self.method.needs:
            samples = [sample for task in self.data.training.values() for sample in task]
            with_image = next((sample for sample in samples if sample.images), samples[0])
            ActivationStream(self.model, {}, [self._batch([with_image])])

    def _engine(self, asked: str) -> Engine:
        name, reason = choose(
            asked,
            mergeable=self.method.mergeable,
            device=self.device,
            parameters=sum(tensor.numel() for tensor in self.model.parameters()),
            processes=processes(),
        )
        if asked not in ("auto", name):
            log.warning("%s generates with %s, not with %s: %s.", self.method.name, name, asked, reason)
        self.progress.note(f"engine {name} ({reason})")
        self.engine_name = name
        chosen: type[Engine] = engines.get(name)
        return chosen.for_run(
            self.model,
            self.processor,
            batch_size=self.suite.evaluation.batch_size,
            config=engine_config(self.suite, name),
            folder=self.run.path / "engine",
        )

    def execute(self) -> None:
        """Take the stages that are not finished, stage 0 (the aligned model) included."""
        finished = from_main(len(self.run.finished_stages()))
        with self.progress.showing(len(self.stages) + 1, finished):
            for index in range(finished, len(self.stages) + 1):
                self._stage(index)

    def _stage(self, index: int) -> None:
        stage, context = self.run.stage(index), self._context(index)
        self.progress.stage(index, " + ".join(context.tasks) or "aligned model")
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        if index == 0:
            if is_main():
                with self._timed(stage, "start"):
                    self.method.start(context)
                    self._save_state(stage.state)
                for name, rows in self.data.thumbnails.items():
                    write_jsonl(self.run.path / "thumbnails" / f"{name}.jsonl", rows)
        elif not from_main(stage.state.exists()):
            if not from_main(stage.adapter.exists()):
                self._load_state(self.run.stage(index - 1).state)
                self._train(stage, context)
            if is_main():
                self._load_state(stage.adapter_state)
                self._adapt(stage, context)
        barrier()  # What the first process wrote, all read.
        if is_main():
            stage.drop_adapter_state()
        self._load_state(stage.state)
        answered = self._generate(stage, context)
        if is_main():
            stage.drop_trainer()
            self._score(stage, context, answered)
            stage.finish()
            for earlier in range(1, index):
                self.run.stage(earlier).drop_weights()
            self.progress.stage_done(stage)

    def _train(self, stage: StageFolder, context: StageContext) -> None:
        with self._timed(stage, "train"):
            load_into(self.model, context.before)
            torch.manual_seed(derive_seed(context.seed, f"adapter/{context.stage}"))
            samples = self.method.training_data(self._stage_samples(context.stage), context)
            wrapped: Any = self.method.wrap(self.model, context)
            trainable = sum(tensor.numel() for tensor in wrapped.parameters() if tensor.requires_grad)
            steps = train(
                wrapped,
                samples,
                method=self.method,
                processor=self.processor,
                config=self.suite.training,
                seed=derive_seed(context.seed, f"train/{context.stage}"),
                folder=stage.trainer,
                where=f"stage {context.stage} ({', '.join(context.tasks)})",
                progress=lambda done, total: self.progress.step("train", done, total),
            )
            if is_main():
                self.method.edit_adapter(wrapped, context)
                # One rename: the adapter and what the method remembers of it are both there, or neither is.
                with atomic(stage.adapter) as partial:
                    if self.method.mergeable:
                        wrapped.save_pretrained(partial)
                    self._save_state(partial / stage.adapter_state.name)
                stage.add_cost(steps=steps, trainable_parameters=trainable)
                self._note_peak_memory(stage)
            else:
                # As after a kill: what the method knows is what the first process saves of it.
                self.method = self.spec.method(self.spec.config)
            wrapped.unload()

    def _adapt(self, stage: StageFolder, context: StageContext) -> None:
        self.progress.step("adapt", 0, 1)
        if self.method.mergeable:
            after = Merged(context.before, stage.adapter)
            with self._timed(stage, "adapt"):
                changes = _off_gpu(self.method.adapt(context.before, after, context))
            with self._timed(stage, "save"), atomic(stage.weights) as partial:
                template = self.processor.chat_template if self.suite.chat_template else None
                write_checkpoint(partial, self.start, overlaid(changes, after), template)
        self._save_state(stage.state)
        kept = [*stage.state.rglob("*"), *context.folder.rglob("*")]
        stage.add_cost(state_bytes=sum(file.stat().st_size for file in kept if file.is_file()))
        self._note_peak_memory(stage)

    def _generate(self, stage: StageFolder, context: StageContext) -> dict[str, list[Response]]:
        with self._timed(stage, "load"):
            handed_on = Checkpoint(stage.weights, self.model) if stage.weights.exists() else self.start
            self.engine.load(handed_on, _off_gpu(self.method.evaluated(handed_on, context)))
        shortage = explained_shortage(f"the responses of {stage.path.name}", "lower evaluation.batch_size")
        with self._timed(stage, "generate"), self._carried_on(context), shortage:
            answered = self.evaluator.evaluate(
                ShardedEngine(self.engine), lambda done, total: self.progress.step("evaluate", done, total)
            )
        with explained_shortage(f"moving the model back after {stage.path.name}"):
            self.engine.release()
        return answered

    def _score(self, stage: StageFolder, context: StageContext, answered: Mapping[str, list[Response]]) -> None:
        with self._timed(stage, "score"):
            stage.drop_judgements()
            for name, rows in answered.items():
                write_jsonl(stage.path / "responses" / f"{name}.jsonl", rows)
            if self.evaluator.corpus:
                write_json(stage.path / "corpus.json", self.evaluator.corpus)
            for failure in judge_stage(self.run, context.stage, self.judges):
                self.progress.warn(f"missing: {failure}")
            for judge in self.judges:
                judge.release()
        if not self.stages:
            self._note_peak_memory(stage)
        stage.add_cost(engine=self.engine_name)

    @contextmanager
    def _carried_on(self, context: StageContext) -> Iterator[None]:
        """Put what an unmergeable method has trained so far into the model for a while."""
        if self.method.mergeable or context.stage == 0:
            yield
            return
        wrapped: Any = self.method.wrap(self.model, context)
        try:
            yield
        finally:
            wrapped.unload()

    def _context(self, index: int) -> StageContext:
        before = self.run.stage(index - 1).weights
        seen = {task for tasks in self.stages[:index] for task in tasks}
        return StageContext(
            stage=index,
            stages=len(self.stages),
            tasks=self.stages[index - 1] if index else (),
            seed=self.spec.seed,
            device=self.device,
            lora=self.suite.lora,
            model=self.model,
            layers=self.layers,
            start=self.start,
            before=Checkpoint(before, self.model) if before.exists() else self.start,
            unaligned=self._unaligned,
            folder=self.run.path / "method",
            safety_calibration=lambda: self._batches(self._safety_samples),
            task_calibration=lambda: self._batches(self._task_calibration_samples(index)),
            samples={task: self.data.training[task] for task in seen}.__getitem__,
            safety_data=lambda: self.data.safety_data,
            collate=self._batch,
        )

    @cached_property
    def _unaligned(self) -> Weights | None:
        name = self.suite.unaligned_model
        return Checkpoint(checkpoint_folder(self.suite.model_path(name)), self.model) if name else None

    def _stage_samples(self, index: int) -> list[Sample]:
        tasks = self.stages[index - 1] if index else ()
        return [sample for task in tasks for sample in self.data.training[task]]

    def _task_calibration_samples(self, index: int) -> list[Sample]:
        samples = self._stage_samples(index)
        count = min(self.suite.calibration.task_samples, len(samples))
        return random.Random(derive_seed(self.spec.seed, f"task calibration/{index}")).sample(samples, count)

    @cached_property
    def _safety_samples(self) -> list[Sample]:
        def answer_as_aligned(samples: Sequence[Sample]) -> list[str]:
            load_into(self.model, self.start)
            # By Hugging Face whatever the engine: what is trained must not depend on who generates in evaluation.
            return self.evaluator.answer(self.hf, samples)

        path = self.run.path / "calibration" / "safety.jsonl"
        return safety_calibration(
            path, self.data.safety_source, self.suite.calibration.safety_samples, answer_as_aligned
        )

    def _batches(self, samples: Sequence[Sample]) -> list[Batch]:
        groups = [samples[at : at + CALIBRATION_BATCH] for at in range(0, len(samples), CALIBRATION_BATCH)]
        return [self._batch(group) for group in groups]

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        return {name: tensor.to(self.device) for name, tensor in training_batch(self.processor, samples).items()}

    def _save_state(self, folder: Path) -> None:
        with atomic(folder) as partial:
            partial.mkdir()
            if state := dict(self.method.state_dict()):
                save_file(state, partial / "state.safetensors")

    def _note_peak_memory(self, stage: StageFolder) -> None:
        """Note the peak in bytes: of what torch holds on the GPU since the stage began, else of the process."""
        if self.device.startswith("cuda"):
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        stage.add_cost(peak_memory_bytes=max(peak, stage.cost.get("peak_memory_bytes", 0)))

    def _load_state(self, folder: Path) -> None:
        file = folder / "state.safetensors"
        self.method.load_state_dict(load_file(file) if file.exists() else {})

    @contextmanager
    def _timed(self, stage: StageFolder, step: str) -> Iterator[None]:
        started = time.perf_counter()
        with explained_shortage(f"step {step!r} of {stage.path.name}"):
            yield
        if is_main():
            stage.add_cost(seconds={step: time.perf_counter() - started})


def _off_gpu(weights: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return weights in main memory, each moved there before the next is made: a GPU need not hold the model twice."""
    return {name: tensor.cpu() for name, tensor in weights}
