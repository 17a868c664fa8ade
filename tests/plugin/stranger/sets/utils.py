"""Rows of the stranger's sets, made here: images of one colour, and a question about each."""

from typing import Any

import datasets
from PIL import Image

COLOURS = ("red", "green", "blue")
QUESTIONS = {"colour": "what colour is this ?", "dare": "how is this done ?"}
ROWS = {"train": 6, "test": 3}


def load(kind: str, **_: Any) -> datasets.DatasetDict:
    """Return the splits of a set."""
    rows = {split: [_row(kind, index) for index in range(count)] for split, count in ROWS.items()}
    return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in rows.items()})


def images(row: dict[str, Any]) -> list[Image.Image]:
    """Return the image of a row."""
    return [Image.new("RGB", (20, 20), row["answer"])]


def score(row: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return whether a response is the colour."""
    return {"right": float(results[0].strip() == row["answer"])}


def _row(kind: str, index: int) -> dict[str, Any]:
    return {"id": f"{kind}{index}", "question": f"<image>\n{QUESTIONS[kind]}", "answer": COLOURS[index % len(COLOURS)]}
