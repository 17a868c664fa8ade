"""What the tasks of the drawn suites, tiny and small, are scored by."""

from typing import Any

from hpa_bench.tiny import tasks


def exact_match(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score a response as right or wrong."""
    return {"acc": tasks.exact(results[0], doc["answer"])}


def slot_accuracy(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score a caption by the fraction of its slots that are right."""
    return {"acc": tasks.slots(results[0], doc["answer"])}
