"""Safety alignment: supervised fine-tuning of a base model on safety data, by the code that trains a stage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hpa_bench.alignment import Alignment, Recipe
from hpa_bench.data.samples import content_hash
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.files import atomic
from hpa_bench.machine.device import choose_device
from hpa_bench.machine.disk import check_space, largest_file, peak_bytes
from hpa_bench.machine.group import barrier, from_main, together
from hpa_bench.machine.processes import is_main
from hpa_bench.method import Method
from hpa_bench.models.adapters import attach_lora, check_modules
from hpa_bench.models.prompts import check_template
from hpa_bench.models.weights import Merged, write_checkpoint
from hpa_bench.results.manifest import NO_PART_OF_TRAINING, AlignmentManifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.environment import environment
from hpa_bench.runner.events import AlignmentStarted, Events, Finished, Observer, Saved, TrainStep, told
from hpa_bench.runner.setup import Base, limit_threads, load_base
from hpa_bench.runner.training import Training, share_of_step, train
from hpa_bench.seeds import derive_seed
from hpa_bench.suite import TrainingConfig

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample

MANIFEST = "alignment.json"
"""Beside the aligned checkpoint's weights: what it was made from, and how."""
CHECKPOINTS = 10
"""Wanted of an alignment, however few its steps: it has no stages that are kept one by one."""


def align(asked: Alignment, observers: Sequence[Observer] = ()) -> AlignmentManifest:
    """Fine-tune a model on the training splits of tasks, all of them together, and write it with the adapter merged.

    What an unfinished alignment has done lies beside its folder, and the same call goes on from there. Launched as
    several processes, all train and the first writes.

    Args:
        asked: what to align.
        observers: are told what happens.

    Returns:
        The manifest, as it lies in the aligned checkpoint's folder.

    Raises:
        UserError: bad input, found before training starts; or the loss became NaN.
    """
    began = time.perf_counter()
    asked.check()
    out, recipe = asked.out, asked.recipe()
    device = choose_device(asked.device)
    share_of_step(recipe.training)
    limit_threads(device, recipe.cpu_threads)
    work = RunFolder(out.with_name(f"{out.name}.unfinished"))
    events = Events(observers if is_main() else ())
    with together(device, work.note_failure) as device, told(events):
        events.emit(AlignmentStarted(model=asked.model, tasks=asked.tasks, folder=str(out)))
        tasks = load_tasks(asked.tasks, asked.task_folders(), data_root=asked.data_root)
        # Rendering every row can take longer than loading any model, so a model that is not there is found first.
        template = Path(recipe.chat_template).expanduser() if recipe.chat_template else None
        base = load_base(asked.model, device, recipe.training.precision(device), template, recipe.decoder)
        check_template(base.processor, [])
        check_modules(base.model, recipe.full, "in --set full")
        check_modules(base.model, recipe.training.also, "in training.also")
        sets = {name: training_samples(task)[: recipe.training.limit] for name, task in tasks.items()}
        samples = [sample for found in sets.values() for sample in found]
        check_template(base.processor, samples)
        manifest = _manifest(asked, recipe, sets, device)
        with work.locked() if is_main() else nullcontext():
            _train(asked, recipe, base, samples, work, manifest, events)
            if is_main():
                stage = work.stage(1)
                spent = {"steps": stage.cost["steps"], "seconds": stage.cost["seconds"]["train"]}
                manifest = manifest.model_copy(update=spent)
                with atomic(out) as partial:
                    write_checkpoint(partial, base.start, Merged(base.start, stage.adapter, device), base.template)
                    manifest.write(partial / MANIFEST)
        if is_main():
            shutil.rmtree(work.path)
            events.emit(Saved(stage=1, what="weights", path=str(out)))
        barrier()
        events.emit(Finished(seconds=time.perf_counter() - began))
    return manifest


def _manifest(asked: Alignment, recipe: Recipe, sets: Mapping[str, Sequence[Sample]], device: str) -> AlignmentManifest:
    return AlignmentManifest(
        model=asked.model,
        data={name: content_hash(found) for name, found in sets.items()},
        samples={name: len(found) for name, found in sets.items()},
        recipe=recipe.model_dump(mode="json", exclude={"training": NO_PART_OF_TRAINING}),
        training=recipe.training.model_dump(mode="json"),
        seed=asked.seed,
        command=asked.command,
        **dict(environment(device)),
    )


def _train(
    asked: Alignment,
    recipe: Recipe,
    base: Base,
    samples: Sequence[Sample],
    work: RunFolder,
    manifest: AlignmentManifest,
    events: Events,
) -> None:
    """Train the adapter and save it in the work folder, unless it is there."""
    torch.manual_seed(derive_seed(asked.seed, "adapter"))
    wrapped: Any = attach_lora(
        base.model, recipe.lora.beside(recipe.training.also), base.decoder.linear_layers, recipe.full
    )
    stage = work.stage(1)
    if is_main():
        work.claim(manifest)
        trained = sum(tensor.numel() for tensor in wrapped.parameters() if tensor.requires_grad)
        needed = peak_bytes(base.start.file_bytes, trained, stages=1)
        largest = largest_file(base.start.file_sizes, trained, stages=1)
        check_space(work.path, needed, [stage.trainer, stage.adapter], largest)
    if from_main(stage.adapter.exists()):
        return
    started = time.perf_counter()
    training = Training(
        method=Method(),
        processor=base.processor,
        config=recipe.training,
        seed=derive_seed(asked.seed, "train"),
        folder=stage.trainer,
        where=f"the alignment on {', '.join(asked.tasks)}",
        further=_tenth(recipe.training, len(samples)),
    )
    steps, earlier = train(wrapped, samples, training, lambda step: events.emit(TrainStep(stage=1, **step._asdict())))
    if is_main():
        stage.add_cost(steps=steps, seconds={"train": earlier + time.perf_counter() - started})
        with atomic(stage.adapter) as partial:
            wrapped.save_pretrained(partial)
        events.emit(Saved(stage=1, what="adapter", path=str(stage.adapter)))


def _tenth(training: TrainingConfig, samples: int) -> int:
    """Return how many steps of a training of so many samples lie between `CHECKPOINTS` checkpoints."""
    steps = samples * training.epochs / (training.batch_size * training.gradient_accumulation)
    return max(1, int(steps / CHECKPOINTS))
