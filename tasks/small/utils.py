"""What the YAMLs of the small tasks call: rows are text, images are drawn when a row is asked for."""

from typing import Any

from PIL import Image

from hpa_bench.small import tasks


def load(task: str, **_: Any) -> dict[str, Any]:
    """Return the train, validation and test split of a small task."""
    from datasets import Dataset

    return {part: Dataset.from_list(tasks.rows(task, part)) for part in tasks.ROWS}


def doc_to_image(doc: dict[str, Any]) -> list[Image.Image]:
    """Draw the image of a row."""
    return [tasks.image(doc)]


def exact_match(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score a response as right or wrong."""
    return {"acc": tasks.exact(results[0], doc["answer"])}


def slot_accuracy(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score a caption by the fraction of its slots that are right."""
    return {"acc": tasks.slots(results[0], doc["answer"])}
