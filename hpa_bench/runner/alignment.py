"""Safety alignment: supervised fine-tuning of a base model on safety data, by the code that trains a stage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field

from hpa_bench.config import BaseConfig, override, parse, parse_settings
from hpa_bench.data.samples import content_hash
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.errors import UserError, unknown
from hpa_bench.files import atomic
from hpa_bench.machine.device import choose_device
from hpa_bench.machine.disk import check_space, peak_bytes
from hpa_bench.machine.group import barrier, from_main, together
from hpa_bench.machine.processes import is_main
from hpa_bench.method import Method
from hpa_bench.models.adapters import attach_lora
from hpa_bench.models.config import LoRAConfig
from hpa_bench.models.prompts import check_template
from hpa_bench.models.weights import Merged, write_checkpoint
from hpa_bench.results.manifest import AlignmentManifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.environment import environment
from hpa_bench.runner.setup import Base, limit_threads, load_base
from hpa_bench.runner.training import Step, Training, share_of_step, train
from hpa_bench.seeds import derive_seed
from hpa_bench.suite import NO_PART_OF_TRAINING, DecoderConfig, TrainingConfig, package_task_folders

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample

MANIFEST = "alignment.json"
"""Beside the aligned checkpoint's weights: what it was made from, and how."""
ALIASES = {"vlguard": "vlguard_alignment", "spa-vl": "spa_vl_alignment"}
"""Data sets by the names that papers give them, in lower case."""


class Recipe(BaseConfig):
    """How an alignment trains: as a stage does."""

    lora: LoRAConfig = LoRAConfig()
    training: TrainingConfig = TrainingConfig()
    full: list[str] = []
    """Modules trained in full beside the adapter, by the last part of their names: `embed_tokens` for refusals in words
    that the base never used, the projector for a base that reads images badly."""
    chat_template: str | None = None
    """A Jinja file in place of the base's own chat template, or for a base without one; it is written with it."""
    decoder: DecoderConfig | None = None
    """Which layers get an adapter; by default every linear layer of the language model."""
    cpu_threads: int | None = Field(None, ge=1, le=1024)
    """Threads of torch on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What is to be aligned, on what, and where to."""

    model: str
    """The base: a checkpoint folder, or a name on the Hugging Face hub."""
    data: Sequence[str]
    """Names of lm-eval tasks with a training split, or of `ALIASES`."""
    out: Path
    """The aligned checkpoint's folder, which must not hold anything yet."""
    settings: Sequence[str] = ()
    """`key=value` for `Recipe`, dotted."""
    seed: int = 0
    """Of data order and adapter init."""
    data_root: str | None = None
    """The folder of the user's downloads, for tasks on downloaded data."""
    include_paths: Sequence[Path] = ()
    """Further folders of lm-eval YAMLs."""
    device: str = "auto"
    """cpu, cuda, or "auto" for a GPU where there is one."""
    command: str = ""
    """The command line, for the manifest."""

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return [ALIASES.get(name.strip().lower(), name.strip()) for name in self.data]

    def recipe(self) -> Recipe:
        """Return how to train.

        Raises:
            UserError: an unknown key or a value that does not fit.
        """
        return parse(Recipe, override({}, parse_settings(list(self.settings))), "in --set")

    def task_folders(self) -> list[Path]:
        """Return the folders of lm-eval YAMLs.

        Raises:
            UserError: one does not exist.
        """
        for path in self.include_paths:
            if not path.is_dir():
                raise UserError(f"--include-path {path} does not exist: expected a folder of lm-eval YAMLs.")
        return [*package_task_folders(), *(path.resolve() for path in self.include_paths)]


def align(asked: Alignment, on_step: Callable[[Step], None] = lambda step: None) -> AlignmentManifest:
    """Fine-tune a model on the training splits of tasks, all of them together, and write it with the adapter merged.

    What an unfinished alignment has done lies beside its folder, and the same call goes on from there. Launched as
    several processes, all train and the first writes.

    Args:
        asked: what to align.
        on_step: called after every optimiser step.

    Returns:
        The manifest, as it lies in the aligned checkpoint's folder.

    Raises:
        UserError: bad input, found before training starts; or the loss became NaN.
    """
    out = asked.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already: expected a folder that does not exist yet, or an empty one.")
    recipe, folders = asked.recipe(), asked.task_folders()
    device = choose_device(asked.device)
    share_of_step(recipe.training)
    limit_threads(device, recipe.cpu_threads)
    work = RunFolder(out.with_name(f"{out.name}.unfinished"))
    with together(device, work.note_failure) as device:
        tasks = load_tasks(asked.tasks, folders, data_root=asked.data_root)
        # Rendering every row can take longer than loading any model, so a model that is not there is found first.
        template = Path(recipe.chat_template).expanduser() if recipe.chat_template else None
        base = load_base(asked.model, device, recipe.training.precision(device), template, recipe.decoder)
        check_template(base.processor, [])
        _check_full(base, recipe.full)
        sets = {name: training_samples(task)[: recipe.training.limit] for name, task in tasks.items()}
        samples = [sample for found in sets.values() for sample in found]
        check_template(base.processor, samples)
        manifest = _manifest(asked, recipe, sets, device)
        with work.locked() if is_main() else nullcontext():
            _train(asked, recipe, base, samples, work, manifest, on_step)
            if is_main():
                stage = work.stage(1)
                spent = {"steps": stage.cost["steps"], "seconds": stage.cost["seconds"]["train"]}
                manifest = manifest.model_copy(update=spent)
                with atomic(out) as partial:
                    write_checkpoint(partial, base.start, Merged(base.start, stage.adapter), base.template)
                    manifest.write(partial / MANIFEST)
        if is_main():
            shutil.rmtree(work.path)
        barrier()
    return manifest


def _check_full(base: Base, full: Sequence[str]) -> None:
    """Refuse modules to train in full that the model does not have."""
    modules = base.model.named_modules()
    known = {name.rpartition(".")[2] for name, module in modules if next(module.parameters(), None) is not None}
    for name in full:
        if name not in known:
            raise unknown("module", name, known, "in --set full")


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
    on_step: Callable[[Step], None],
) -> None:
    """Train the adapter and save it in the work folder, unless it is there."""
    torch.manual_seed(derive_seed(asked.seed, "adapter"))
    wrapped: Any = attach_lora(base.model, recipe.lora, base.decoder.linear_layers, recipe.full)
    stage = work.stage(1)
    if is_main():
        work.claim(manifest)
        trained = sum(tensor.numel() for tensor in wrapped.parameters() if tensor.requires_grad)
        check_space(work.path, peak_bytes(base.start.file_bytes, trained, stages=1), [stage.trainer, stage.adapter])
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
    )
    steps = train(wrapped, samples, training, on_step)
    if is_main():
        with atomic(stage.adapter) as partial:
            wrapped.save_pretrained(partial)
        stage.add_cost(steps=steps, seconds={"train": time.perf_counter() - started})
