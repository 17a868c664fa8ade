"""Leakage: test samples that also stand in data that a model was trained, aligned or calibrated on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpa_bench.data.images import stamps

if TYPE_CHECKING:
    from hpa_bench.data.images import Stamp
    from hpa_bench.data.samples import Sample

Question = tuple[str, tuple[tuple[int, tuple[int, int]], ...]]
"""A question and, of each of its images, what is known without reading it."""


class Leak(NamedTuple):
    """Test samples of one set that stand in another set too."""

    test: str
    source: str
    pairs: Sequence[tuple[str, str]]
    """The id of each such test sample, and that of the first equal sample of the source."""


def find_leaks(
    tests: Mapping[str, Iterable[Sample]],
    sources: Mapping[str, Iterable[Sample]],
    suffixes: Mapping[str, Sequence[str]],
) -> list[Leak]:
    """Return which test samples stand in a source: the same images, byte for byte, and the same question.

    Case, punctuation (but for signs of arithmetic) and white space of questions do not count, nor do the suffixes of
    test questions. Files are read only where a question and the sizes of its images agree, so a hundred thousand rows
    take about a second.

    Args:
        tests: the test samples by set.
        sources: by name, the samples that no test sample should stand in.
        suffixes: by test set, what may have been added to its questions.
    """
    asked: dict[Question, list[tuple[str, Sample]]] = {}
    for test, samples in tests.items():
        for sample in samples:
            asked.setdefault(_questions(sample, suffixes.get(test, ()))[0], []).append((test, sample))
    found: dict[tuple[str, str], dict[str, str]] = {}
    for source, samples in sources.items():
        for known in samples:
            for test, sample in chain.from_iterable(asked.get(question, ()) for question in _questions(known)):
                if sample.id not in found.get((test, source), {}) and _content(sample) == _content(known):
                    found.setdefault((test, source), {})[sample.id] = known.id
    return [Leak(test, source, list(pairs.items())) for (test, source), pairs in found.items()]


def _questions(sample: Sample, suffixes: Sequence[str] = ()) -> list[Question]:
    """Return each question of a sample's conversation as it is compared."""
    images = tuple((stamp.bytes, stamp.size) for stamp in stamps(sample.images))
    return [(_words(question, suffixes), images) for question, _ in sample.exchanges]


def _words(question: str, suffixes: Sequence[str]) -> str:
    text = next((question.removesuffix(end) for end in suffixes if question.endswith(end)), question)
    return " ".join(re.findall(r"\w+|[<>=+*×÷^%]", text.replace("<image>", " ").lower()))


def _content(sample: Sample) -> list[str]:
    return [_digest(stamp) for stamp in stamps(sample.images)]


@cache
def _digest(stamp: Stamp) -> str:
    if stamp.pixels:
        return stamp.pixels
    with Path(stamp.file).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
