"""What the YAMLs of the small tasks call: rows are text, images are drawn when a row is asked for."""

from typing import Any

from PIL import Image

from hpa_bench.small import tasks
from hpa_bench.tasks.drawn import exact_match

__all__ = ["doc_to_image", "exact_match", "load", "things_right"]


def load(task: str, **_: Any) -> dict[str, Any]:
    """Return the train, validation and test split of a small task."""
    from datasets import Dataset

    return {part: Dataset.from_list(tasks.rows(task, part)) for part in tasks.ROWS}


def doc_to_image(doc: dict[str, Any]) -> list[Image.Image]:
    """Draw the image of a row."""
    return [tasks.image(doc)]


def things_right(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score a caption by the fraction of its things, and of where they stand, that is right."""
    return {"acc": tasks.things_right(results[0], doc["answer"])}
