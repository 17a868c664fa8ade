"""Load and check everything that a run needs, before any time is spent on training."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hpa_bench.engines.base import Engine, engines
from hpa_bench.engines.choice import choose
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.judges.base import Judge, make_judge
from hpa_bench.machine import products
from hpa_bench.machine.disk import check_space, largest_file, peak_bytes
from hpa_bench.machine.numerics import doubts
from hpa_bench.machine.processes import is_main, processes
from hpa_bench.method import Method, Need
from hpa_bench.metrics import scored_tasks
from hpa_bench.models.activations import ActivationStream
from hpa_bench.models.adapters import check_modules
from hpa_bench.models.decoder import Decoder, find_decoder
from hpa_bench.models.features import keep_features
from hpa_bench.models.loading import checkpoint_folder, load_model
from hpa_bench.models.prompts import check_template, tokenizer_of, training_batch
from hpa_bench.models.weights import Checkpoint
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.environment import numerics
from hpa_bench.runner.evaluation import Evaluator
from hpa_bench.runner.inputs import RunData
from hpa_bench.runner.kept import redo
from hpa_bench.runner.manifest import make_manifest
from hpa_bench.runner.trial import check_answers
from hpa_bench.spec import RunSpec, engine_config
from hpa_bench.suite import DecoderConfig

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample

log = logging.getLogger(__name__)

MOST_ANSWERS = 5000
"""Different answers of a task that are looked through for unknown words."""


@dataclass(frozen=True)
class Base:
    """The model that training starts from, loaded."""

    model: Any
    processor: Any
    start: Checkpoint
    """Its checkpoint: theta_0."""
    decoder: Decoder
    """Where the language model's blocks and linear layers are in it."""
    template: str | None
    """The chat template that is written with every checkpoint, where it is not the model's own."""

    def batch(self, samples: Sequence[Sample], device: str) -> dict[str, torch.Tensor]:
        """Return model inputs of samples as one batch on a device, labels included."""
        return {name: tensor.to(device) for name, tensor in training_batch(self.processor, samples).items()}


@dataclass(frozen=True)
class Setup:
    """All that a run works with."""

    spec: RunSpec
    run: RunFolder
    device: str
    stages: Sequence[Sequence[str]]
    """The tasks of stages 1, 2, ..."""
    data: RunData
    base: Base
    engine: Engine
    engine_name: str
    why: str
    """Why this engine."""
    evaluator: Evaluator
    judges: Sequence[Judge]
    warnings: Sequence[str]
    """What is odd about the input and ends nothing, one sentence each."""

    def scored(self, stage: int) -> list[str]:
        """Return the sets that are scored after a stage."""
        suite = self.spec.suite
        tasks = scored_tasks(suite.evaluation.matrix, stage, self.stages, suite.tasks)
        return [*tasks, *suite.judged_sets]

    def new_method(self) -> Method:
        """Return the method as it is before anything is remembered."""
        return self.spec.method(self.spec.config)


def load_base(
    model: str, device: str, dtype: str, template: Path | None = None, decoder: DecoderConfig | None = None
) -> Base:
    """Load the model that a run or an alignment starts from, on a device, on as many threads as torch has.

    Args:
        model: a checkpoint folder, or a name on the Hugging Face hub.
        device: a torch device.
        dtype: of its weights.
        template: a Jinja file in place of the model's own chat template.
        decoder: where the language model's layers are, if they are not to be found.

    Raises:
        UserError: it cannot be loaded.
    """
    source = checkpoint_folder(model)
    loaded, processor = load_model(source, device, dtype, template)
    decoder = decoder or DecoderConfig()
    found = find_decoder(loaded, decoder.blocks, decoder.layers)
    written = processor.chat_template if template is not None else None
    return Base(loaded, processor, Checkpoint(source, loaded), found, written)


def limit_threads(device: str, threads: int | None) -> None:
    """Let torch use so many threads on a CPU, or leave it as it is."""
    if device == "cpu" and threads:
        torch.set_num_threads(threads)


def prepare(spec: RunSpec, run: RunFolder, device: str, from_stage: int | None = None) -> Setup:
    """Load and check everything; nothing is written, or set aside, before the folder is known to be this run's.

    Args:
        spec: what to run.
        run: its folder.
        device: a torch device.
        from_stage: set aside what there is of this stage and of later ones.

    Raises:
        UserError: bad input, or the folder belongs to another run.
    """
    started = time.perf_counter()
    suite = spec.suite
    limit_threads(device, suite.cpu_threads)
    stages = list(spec.stages)
    _check_engine(spec, device)
    data = RunData(spec, [task for tasks in stages for task in tasks])
    precision = suite.training.precision(device)
    base = load_base(suite.model_path(), device, precision, suite.chat_template_path(), suite.decoder)
    if suite.image_features.keep:
        keep_features(base.model, base.decoder, suite.image_features.mebibytes)
    check_modules(base.model, suite.training.also, "in training.also")
    # A template that cannot be trained on is refused before any time is spent.
    check_template(base.processor, chain(*data.training.values(), data.safety_data))
    check_answers(base.model, base.processor, base.start.folder)
    _check_calibration(base, data, spec.needs, device)
    name, why = _choose_engine(spec, base, device)
    if is_main():
        run.claim(make_manifest(spec, data, base.start.folder, device, name))
    aside = redo(run, from_stage) if is_main() and from_stage is not None else None
    engine = engines.get(name).for_run(
        base.model,
        base.processor,
        batch_size=suite.evaluation.batch_size,
        config=engine_config(suite, name),
        folder=run.path / "engine",
    )
    judges = [make_judge(judge, suite.task_metadata()) for judge in suite.judges]
    evaluator = Evaluator(data.evaluated, suite.evaluation.limit, data.samples)
    if is_main():
        _check_space(spec, run, base, stages, spec.method.mergeable)
        # Costs of finished stages are sealed; where all are, nothing was set up for anything.
        if (begun := len(run.finished_stages())) <= len(stages):
            run.stage(begun).add_cost(seconds={"set-up": time.perf_counter() - started})
    warnings = [*_odd_numerics(spec, run, device), *_unknown_words(base, data)]
    if aside is not None:
        warnings.append(f"What there was of this run from stage {from_stage} on is now in {aside}.")
    return Setup(spec, run, device, stages, data, base, engine, name, why, evaluator, judges, warnings)


def _odd_numerics(spec: RunSpec, run: RunFolder, device: str) -> list[str]:
    """Return why the digits of this run may be no other machine's, or not those of its own first stages."""
    if not is_main():
        return []
    doubt = doubts(device, products.in_force()) if spec.suite.numerics == "portable" else None
    began, now = run.manifest.numerics.said(), numerics(device).said()
    changed = {key: (began.get(key), now.get(key)) for key in {**began, **now} if began.get(key) != now.get(key)}
    return [
        *([doubt] if doubt else []),
        *(
            f"This run began with {key} {before} and goes on with {after}: its digits are of neither alone."
            for key, (before, after) in changed.items()
            if began
        ),
    ]


def _unknown_words(base: Base, data: RunData) -> list[str]:
    """Return a warning for each task whose answers hold words that the tokenizer does not know."""
    tokenizer = tokenizer_of(base.processor)
    if tokenizer.unk_token_id is None:
        return []
    found = []
    for task, samples in data.training.items():
        answers = list(dict.fromkeys(answer for sample in samples for _, answer in sample.exchanges))[:MOST_ANSWERS]
        ids = tokenizer(answers, add_special_tokens=False)["input_ids"] if answers else []
        unknown = [answer for answer, tokens in zip(answers, ids, strict=True) if tokenizer.unk_token_id in tokens]
        if unknown:
            found.append(
                f"{len(unknown)} of {len(answers)} different training answers of {task!r} hold words that the model's"
                f" tokenizer reads as {tokenizer.unk_token}, such as {unknown[0][:80]!r}: they cannot be learned."
            )
    return found


def _check_engine(spec: RunSpec, device: str) -> None:
    """Refuse an engine of one process where several were launched, before anything is read."""
    if processes() == 1:
        return
    asked = spec.suite.evaluation.engine
    # Several processes decide `auto` whatever the model's size.
    name, _ = choose(asked, mergeable=spec.method.mergeable, device=device, parameters=0, processes=processes())
    if not issubclass(engines.get(name), HFEngine):
        raise UserError(
            f"evaluation.engine={asked} generates in one process only and {processes()} were launched: launch one,"
            " or set evaluation.engine=hf, which shares the requests out."
        )


def _choose_engine(spec: RunSpec, base: Base, device: str) -> tuple[str, str]:
    """Return the engine's name and the reason."""
    asked = spec.suite.evaluation.engine
    name, why = choose(
        asked,
        mergeable=spec.method.mergeable,
        device=device,
        parameters=sum(tensor.numel() for tensor in base.model.parameters()),
        processes=processes(),
    )
    if asked not in ("auto", name):
        log.warning("%s generates with %s, not with %s: %s.", spec.method.name, name, asked, why)
    return name, why


def _check_calibration(base: Base, data: RunData, needs: frozenset[Need], device: str) -> None:
    """Refuse a model that cannot be calibrated block by block before any time is spent on training it."""
    if {"task_calibration", "safety_calibration"} & needs:
        samples = [sample for task in data.training.values() for sample in task]
        with_image = next((sample for sample in samples if sample.images), samples[0])
        ActivationStream(base.model, {}, [base.batch([with_image], device)], decoder=base.decoder)


def _check_space(spec: RunSpec, run: RunFolder, base: Base, stages: Sequence[Sequence[str]], mergeable: bool) -> None:
    """Check that the disk has room for what this run will write, less what an earlier attempt left."""
    shapes = [base.model.get_submodule(name).weight.shape for name in base.decoder.linear_layers]
    trainable = sum(spec.suite.lora.rank * sum(shape) for shape in shapes)
    parts = [part for name, part in base.model.named_modules() if name.rpartition(".")[2] in spec.suite.training.also]
    trainable += sum(tensor.numel() for part in parts for tensor in part.parameters())
    needed = peak_bytes(
        checkpoint=base.start.file_bytes,
        trainable=trainable,
        stages=len(stages),
        mergeable=mergeable,
        keep_weights=spec.suite.training.keep_weights,
    )
    folders = [run.stage(index) for index in range(1, len(stages) + 1)]
    largest = largest_file(base.start.file_sizes, trainable, len(stages), mergeable)
    check_space(run.path, needed, [path for s in folders for path in (s.weights, s.adapter, s.trainer)], largest)
