"""Small lm-eval tasks written to a folder, with real image files, for tests that need data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UTILS = """
import json
from pathlib import Path

import datasets
from PIL import Image

HERE = Path(__file__).parent


def load(task, **_):
    splits = json.loads((HERE / f"{task}.json").read_text())
    return datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})


def images(doc):
    return [Image.open(HERE / name) for name in doc["images"]]


def score(doc, results):
    return {"right": float(results[0].strip().lower() == str(doc["answer"]).lower())}
"""


SIZES = {"red": (30, 24), "green": (70, 20), "blue": (10, 13)}
"""Width and height of each colour's image in pixels."""


def row(index: int, colour: str = "red", **fields: Any) -> dict[str, Any]:
    """Return a row that asks for the colour of an image; `write_task` makes the image."""
    return {
        "id": f"r{index}",
        "question": "<image>\nwhat colour is this ?",
        "answer": colour,
        "images": [f"{colour}.png"],
        **fields,
    }


def rows(count: int) -> list[dict[str, Any]]:
    """Return rows whose prompts differ in length."""
    colours = ("red", "green", "blue")
    return [
        row(i, colours[i % 3], question="<image>\nwhat colour is this" + " there" * (i * 7 % 5) + " ?")
        for i in range(count)
    ]


def write_task(
    folder: Path, name: str, splits: dict[str, Sequence[dict[str, Any]]], metric: str = "right", **settings: Any
) -> Path:
    """Write one task: its YAML, its rows, and a plain image for every colour.

    Args:
        folder: where to; several tasks may share it.
        name: of the task.
        splits: rows by split: train, validation, test.
        metric: "right" (exact match), "bypass", or any other, which then has no process_results.
        settings: more keys of the YAML; None leaves one out.
    """
    import yaml
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "utils.py").write_text(UTILS)
    (folder / f"{name}.json").write_text(json.dumps({split: list(found) for split, found in splits.items()}))
    for colour, size in SIZES.items():
        Image.new("RGB", size, colour).save(folder / f"{colour}.png")
    keys = {"training_split": "train", "validation_split": "validation", "test_split": "test"}
    config = {
        "task": name,
        "dataset_kwargs": {"task": name},
        **{key: split for key, split in keys.items() if split in splits},
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 6},
        "metric_list": [
            {"metric": metric, "aggregation": "bypass" if metric == "bypass" else "mean", "higher_is_better": True}
        ],
        **settings,
    }
    text = yaml.safe_dump({key: value for key, value in config.items() if value is not None})
    text += "custom_dataset: !function utils.load\n"
    if "doc_to_image" not in settings:
        text += "doc_to_image: !function utils.images\n"
    if metric == "right":
        text += "process_results: !function utils.score\n"
    (folder / f"{name}.yaml").write_text(text)
    return folder
