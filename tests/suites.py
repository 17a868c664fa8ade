"""A whole suite that runs in seconds: a random LLaVA, two tasks, a safety set and a benign set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.lmeval_tasks import rows, write_task
from tests.models import save_random_llava


def write_suite(folder: Path, **changes: Any) -> Path:
    """Write a suite with its model and tasks below `folder` and return its YAML file.

    Args:
        folder: where to.
        changes: other values for the suite's keys; None leaves a key out.
    """
    save_random_llava(folder / "model")
    for index, name in enumerate(("colours", "shades")):
        found = rows(24)
        write_task(folder / "tasks", name, {"train": found[index : 12 + index], "test": found[14 + index : 20 + index]})
    for name in ("harm", "harmless"):
        found = [{**row, "category": "paint"} for row in rows(5)]
        write_task(folder / "tasks", name, {"train": found, "test": found}, metric="bypass")
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
