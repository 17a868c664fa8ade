"""A sample: one question about images and its answer, as training, calibration and generation see it.

Samples are rows of lm-eval tasks, rendered through the task's own doc_to_* functions, once for a run: what is trained
on, what is hashed and what is stored beside a response are the same objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hpa_bench.data.images import content_fields

if TYPE_CHECKING:
    from PIL.Image import Image

PLACEHOLDER = "<image>"
"""Stands for an image in a prompt, as in lm-eval."""

Kind = Literal["task", "safety", "benign", "source"]
"""What a suite uses a set for."""


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
    about: Mapping[str, str] = field(default_factory=dict)
    """What judges and reports are told beside it: its category, request and cluster, as far as its row has them."""
    graded_by: str = ""
    """Of a row that is evaluated: what decides its score beside `target`, as JSON, such as further answers."""

    @property
    def exchanges(self) -> list[tuple[str, str]]:
        """All questions and answers of the conversation."""
        return [(self.prompt, self.target), *self.further]


def content_hash(samples: Iterable[Sample]) -> str:
    """Return a SHA-256 over ids, prompts, answers, images and what rows are graded by, of samples in their order.

    Images kept in memory count with their pixels, the others as `hpa_bench.data.images.content_fields` says.
    """
    digest = hashlib.sha256()
    for sample in samples:
        texts = [sample.id, *(text for exchange in sample.exchanges for text in exchange)]
        parts = [text.encode() for text in texts]
        parts += content_fields(sample.images)
        # Lengths keep one row's end from being read as another's beginning, and the number of texts, where there may be
        # more than three, a further exchange from being read as an image.
        lengths = [len(part) for part in parts]
        digest.update(repr((len(texts), lengths) if sample.further else lengths).encode())
        for part in parts:
            digest.update(part)
        if sample.graded_by:
            # Rows begin with a bracket, this with a letter.
            graded_by = sample.graded_by.encode()
            digest.update(b"graded by %d " % len(graded_by) + graded_by)
    return digest.hexdigest()
