"""A sample: one question about images and its answer, as training, calibration and generation see it.

Samples are rows of lm-eval tasks, rendered through the task's own doc_to_* functions: training reads them here,
evaluation through lm-eval itself, and both see the same prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpa_bench.data.images import content_fields

if TYPE_CHECKING:
    from PIL.Image import Image

PLACEHOLDER = "<image>"
"""Stands for an image in a prompt, as in lm-eval."""


@dataclass(frozen=True)
class Sample:
    """One row of a task, rendered through the task's own doc_to_* functions.

    `prompt` is the user's turn before any chat template, with one `<image>` for each of `images`. Of a large set most
    images are decoded anew whenever they are read (see `hpa_bench.data.images`). `further` holds the later questions
    and answers of the same conversation, about the same images; they count in training alone.
    """

    id: str
    task: str
    prompt: str
    target: str
    images: Sequence[Image]
    further: Sequence[tuple[str, str]] = ()

    @property
    def exchanges(self) -> list[tuple[str, str]]:
        """All questions and answers of the conversation."""
        return [(self.prompt, self.target), *self.further]


def content_hash(samples: Iterable[Sample]) -> str:
    """Return a SHA-256 over the ids, prompts, answers and images of samples, in their order.

    Images kept in memory count with their pixels, the others as `hpa_bench.data.images.content_fields` says.
    """
    digest = hashlib.sha256()
    for sample in samples:
        texts = [sample.id, *(text for exchange in sample.exchanges for text in exchange)]
        fields = [text.encode() for text in texts]
        fields += content_fields(sample.images)
        # Lengths keep one row's end from being read as another's beginning.
        digest.update(repr([len(field) for field in fields]).encode())
        for field in fields:
            digest.update(field)
    return digest.hexdigest()
