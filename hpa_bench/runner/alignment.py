"""Safety alignment: supervised fine-tuning of a base model on safety data, by the code that trains a stage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from hpa_bench.config import override, parse, parse_settings
from hpa_bench.errors import UserError, unknown
from hpa_bench.method import Method
from hpa_bench.models.adapters import LoRAConfig
from hpa_bench.seeds import derive_seed
from hpa_bench.suite import NO_PART_OF_TRAINING, DecoderConfig, TrainingConfig, package_task_folders

if TYPE_CHECKING:
    from hpa_bench.runner.training import Progress

MANIFEST = "alignment.json"
"""Beside the aligned checkpoint's weights: what it was made from, and how."""
ALIASES = {"vlguard": "vlguard_alignment", "spa-vl": "spa_vl_alignment"}
"""Data sets by the names that papers give them, in lower case."""
IDENTITY = ("model", "recipe", "seed", "data")
"""The manifest's keys that make two alignments the same."""


class Recipe(BaseModel):
    """How an alignment trains: as a stage does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lora: LoRAConfig = LoRAConfig()
    training: TrainingConfig = TrainingConfig()
    full: list[str] = []
    """Modules trained in full beside the adapter, by the last part of their names: `embed_tokens` for refusals in words
    that the base never used, the projector for a base that reads images badly."""
    chat_template: str | None = None
    """A Jinja file in place of the base's own chat template, or for a base without one; it is written with it."""
    decoder: DecoderConfig | None = None
    """Which layers get an adapter; by default every linear layer of the language model."""
    cpu_threads: int | None = Field(None, ge=1)
    """Threads of torch on a CPU."""


def align(
    model: str,
    data: Sequence[str],
    out: Path,
    *,
    settings: Sequence[str] = (),
    seed: int = 0,
    data_root: str | None = None,
    include_paths: Sequence[Path] = (),
    device: str = "auto",
    command: str = "",
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Fine-tune a model on the training splits of tasks, all of them together, and write it with the adapter merged.

    What an unfinished alignment has done lies beside `out`, and the same call goes on from there. Launched as several
    processes, all train and the first writes.

    Args:
        model: a checkpoint folder, or a name on the Hugging Face hub.
        data: names of lm-eval tasks with a training split, or of `ALIASES`.
        out: the aligned checkpoint's folder, which must not hold anything yet.
        settings: `key=value` for `Recipe`, dotted.
        seed: of data order and adapter init.
        data_root: the folder of the user's downloads, for tasks on downloaded data.
        include_paths: further folders of lm-eval YAMLs.
        device: cpu, cuda, or "auto" for a GPU where there is one.
        command: the command line, for the manifest.
        progress: called after every optimiser step.

    Returns:
        The manifest, as it lies in `out`.

    Raises:
        UserError: bad input, found before training starts; or the loss became NaN.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already: expected a folder that does not exist yet, or an empty one.")
    recipe = parse(Recipe, override({}, parse_settings(list(settings))), "in --set")
    folders = package_task_folders()
    for path in include_paths:
        if not path.is_dir():
            raise UserError(f"--include-path {path} does not exist: expected a folder of lm-eval YAMLs.")
        folders.append(path.resolve())
    names = [ALIASES.get(name.strip().lower(), name.strip()) for name in data]

    import torch

    from hpa_bench.data.samples import content_hash
    from hpa_bench.data.tasks import load_tasks, training_samples
    from hpa_bench.files import atomic, write_json
    from hpa_bench.machine.device import choose_device
    from hpa_bench.machine.disk import check_space, peak_bytes
    from hpa_bench.machine.processes import barrier, from_main, is_main, together
    from hpa_bench.models.adapters import attach_lora
    from hpa_bench.models.decoder import linear_layers, set_decoder
    from hpa_bench.models.loading import checkpoint_folder, load_model
    from hpa_bench.models.prompts import check_template
    from hpa_bench.models.weights import Checkpoint, Merged, write_checkpoint
    from hpa_bench.results.run_folder import RunFolder
    from hpa_bench.runner.environment import environment
    from hpa_bench.runner.training import share_of_step, train

    device = choose_device(device)
    share_of_step(recipe.training)
    if device == "cpu" and recipe.cpu_threads:
        torch.set_num_threads(recipe.cpu_threads)
    work = RunFolder(out.with_name(f"{out.name}.unfinished"))
    with together(device, work.note_failure) as device:
        tasks = load_tasks(names, folders, data_root=data_root)
        # Rendering every row can take longer than loading any model, so a model that is not there is found first.
        source = checkpoint_folder(model)
        template = Path(recipe.chat_template).expanduser() if recipe.chat_template else None
        base, processor = load_model(source, device, recipe.training.precision(device), template)
        check_template(processor, [])
        if recipe.decoder is not None:
            set_decoder(base, recipe.decoder.blocks, recipe.decoder.layers)
        start = Checkpoint(source, base)
        known = {
            name.rpartition(".")[2]
            for name, module in base.named_modules()
            if next(module.parameters(), None) is not None
        }
        for name in recipe.full:
            if name not in known:
                raise unknown("module", name, known, "in --set full")
        sets = {name: training_samples(task)[: recipe.training.limit] for name, task in tasks.items()}
        samples = [sample for found in sets.values() for sample in found]
        check_template(processor, samples)
        manifest = {
            "model": model,
            "data": {name: content_hash(found) for name, found in sets.items()},
            "samples": {name: len(found) for name, found in sets.items()},
            "recipe": recipe.model_dump(mode="json", exclude={"training": NO_PART_OF_TRAINING}),
            "training": recipe.training.model_dump(mode="json"),
            "seed": seed,
            "command": command,
            **environment(device),
        }
        torch.manual_seed(derive_seed(seed, "adapter"))
        layers = [name for block in linear_layers(base) for name in block]
        wrapped: Any = attach_lora(base, recipe.lora, layers, recipe.full)

        stage = work.stage(1)
        with work.locked() if is_main() else nullcontext():
            if is_main():
                work.claim(manifest, IDENTITY)
                trained = sum(tensor.numel() for tensor in wrapped.parameters() if tensor.requires_grad)
                check_space(work.path, peak_bytes(start.file_bytes, trained, stages=1), [stage.trainer, stage.adapter])
            if not from_main(stage.adapter.exists()):
                started = time.perf_counter()
                steps = train(
                    wrapped,
                    samples,
                    method=Method(),
                    processor=processor,
                    config=recipe.training,
                    seed=derive_seed(seed, "train"),
                    folder=stage.trainer,
                    where=f"the alignment on {', '.join(names)}",
                    progress=progress,
                )
                if is_main():
                    with atomic(stage.adapter) as partial:
                        wrapped.save_pretrained(partial)
                    stage.add_cost(steps=steps, seconds={"train": time.perf_counter() - started})
            if is_main():
                manifest |= {"steps": stage.cost["steps"], "seconds": stage.cost["seconds"]["train"]}
                with atomic(out) as partial:
                    chat_template = processor.chat_template if template else None
                    write_checkpoint(partial, start, Merged(start, stage.adapter), chat_template)
                    write_json(partial / MANIFEST, manifest)
        if is_main():
            shutil.rmtree(work.path)
        barrier()
    return manifest
