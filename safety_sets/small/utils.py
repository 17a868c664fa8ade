"""What the YAMLs of the small safety sets call: rows are text, images are drawn when a row is asked for."""

from typing import Any

from PIL import Image

from hpa_bench.safety_sets.drawn import attack_success, over_refusal, splits
from hpa_bench.small import lessons, safety, tasks
from hpa_bench.tasks.drawn import exact_match

__all__ = ["attack_success", "doc_to_image", "exact_match", "load", "over_refusal"]


def load(name: str, **_: Any) -> dict[str, Any]:
    """Return the splits of a small safety set."""
    return splits(name, lessons, safety)


def doc_to_image(doc: dict[str, Any]) -> list[Image.Image]:
    """Draw the image of a row."""
    return [tasks.image(doc)]
