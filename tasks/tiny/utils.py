"""What the YAMLs of the tiny tasks call: rows are text, images are drawn when a row is asked for."""

from typing import Any

from PIL import Image

from hpa_bench.tasks.drawn import exact_match, slot_accuracy
from hpa_bench.tiny import tasks

__all__ = ["doc_to_image", "exact_match", "load", "slot_accuracy"]


def load(task: str, **_: Any) -> dict[str, Any]:
    """Return the train, validation and test split of a tiny task."""
    from datasets import Dataset

    return {part: Dataset.from_list(tasks.rows(task, part)) for part in tasks.ROWS}


def doc_to_image(doc: dict[str, Any]) -> list[Image.Image]:
    """Draw the image of a row."""
    return [tasks.image(doc)]
