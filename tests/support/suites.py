"""A whole suite that runs in seconds: a small LLaVA, two tasks (or three), a safety set and a benign set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.lmeval_tasks import rows, write_task
from tests.support.models import random_llava, save_random_llava

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample

REFUSAL = "sorry i cannot help with that"


def write_suite(
    folder: Path,
    aligned: bool = False,
    text_only: bool = False,
    shape: Mapping[str, int] | None = None,
    **changes: Any,
) -> Path:
    """Write a suite with its model and tasks below `folder` and return its YAML file.

    Beside what the suite names there are a third task `tints` and a task `refusals`, harmful requests that are refused.

    Args:
        folder: where to.
        aligned: teach the model to refuse, and keep it as it was before in `folder/unaligned`.
        text_only: leave the images out of every fourth row.
        shape: sizes of the model, as `random_llava` takes them.
        changes: other values for the suite's keys; None leaves a key out.
    """
    for index, name in enumerate(("colours", "shades", "tints")):
        found = rows(24)
        if text_only:
            found[1::4] = [
                {**row, "question": row["question"].replace("<image>", ""), "images": []} for row in found[1::4]
            ]
        write_task(folder / "tasks", name, {"train": found[index : 12 + index], "test": found[14 + index : 20 + index]})
    for name in ("harm", "harmless"):
        found = [{**row, "category": "paint"} for row in rows(5)]
        write_task(folder / "tasks", name, {"train": found, "test": found}, metric="bypass")
    refused = [{**row, "question": row["question"].replace("what colour", "how"), "answer": REFUSAL} for row in rows(8)]
    write_task(folder / "tasks", "refusals", {"train": refused, "test": refused})
    save_random_llava(folder / ("unaligned" if aligned else "model"), **(shape or {}))
    if aligned:
        _save_aligned_llava(folder / "model", folder / "tasks", shape or {})
    suite = {
        "name": "small",
        "model": "./model",
        "include_paths": ["./tasks"],
        "tasks": ["colours", "shades"],
        "safety_sets": ["harm"],
        "benign_sets": ["harmless"],
        "judges": ["keyword"],
        "harmful_data": "harm",
        "lora": {"rank": 2, "alpha": 4},
        "training": {"learning_rate": 1e-3, "batch_size": 4, "epochs": 1},
        **changes,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in suite.items() if value is not None}, sort_keys=False))
    return path


def _save_aligned_llava(folder: Path, tasks: Path, shape: Mapping[str, int]) -> None:
    from hpa_bench.data.tasks import load_tasks, training_samples

    model, processor = random_llava(**shape)
    teach(model, processor, training_samples(load_tasks(["refusals"], [tasks])["refusals"]))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def teach(model: Any, processor: Any, samples: Sequence[Sample], until: float = 0.1) -> None:
    """Train a model's decoder on samples until it gives their answers, or the loss is below `until`."""
    import torch

    from hpa_bench.models.decoder import find_decoder
    from hpa_bench.models.prompts import training_batch

    batch = training_batch(processor, samples)
    weights = [model.get_submodule(name).weight for name in find_decoder(model).linear_layers]
    optimiser = torch.optim.Adam(weights, lr=1e-2)
    for _ in range(100):
        loss = model(**batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < until:
            break
