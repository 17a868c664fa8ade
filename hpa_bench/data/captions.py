"""Captions, scored over a whole test split by pycocoevalcap: BLEU, METEOR, ROUGE-L and CIDEr.

Two metrics with names of their own, since their numbers do not compare: `coco_caption` is what MCITlib reports, the
mean of Bleu_1 to Bleu_4, METEOR, ROUGE_L and CIDEr on PTB tokens, and needs Java; `bleu_rouge_cider` is the mean
without METEOR, on plain words, and does not.

CIDEr weighs words by how many references of the split use them, so even a single caption's score depends on the split:
hence aggregations. A caption's own score is the mean of its own seven (or six) values; the mean of these is not the
corpus figure, because BLEU and METEOR of a corpus are made from its counts, not from its sentences' scores.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import NamedTuple

from hpa_bench.errors import UserError

Item = tuple[str, tuple[str, ...]]
"""A caption and the references that it is compared with."""


class CorpusMetric(NamedTuple):
    """A metric whose value for one sample depends on the others."""

    per_sample: Callable[[Sequence[Item]], list[float]]
    highest: float
    """The highest value that a sample can have."""


def coco_caption(items: Sequence[Item]) -> float:
    """Return the mean of Bleu_1..4, METEOR, ROUGE_L and CIDEr over a corpus (MCITlib eval_caption.py)."""
    return _scored(_hashable(items), java=True)[0]


def bleu_rouge_cider(items: Sequence[Item]) -> float:
    """Return the mean of Bleu_1..4, ROUGE_L and CIDEr over a corpus, on lower-case words."""
    return _scored(_hashable(items), java=False)[0]


def _per_sample(java: bool, items: Sequence[Item]) -> list[float]:
    return list(_scored(_hashable(items), java=java)[1])


CORPUS_METRICS = {
    # CIDEr goes to 10, everything else to 1.
    "coco_caption": CorpusMetric(partial(_per_sample, True), 16 / 7),
    "bleu_rouge_cider": CorpusMetric(partial(_per_sample, False), 15 / 6),
}
"""By name, what `hpa_bench.runner.evaluation` scores over a whole set."""


def check_captions(java: bool) -> None:
    """Check that captions can be scored here.

    Raises:
        UserError: pycocoevalcap or, where it is needed, Java is missing.
    """
    if find_spec("pycocoevalcap") is None:
        raise UserError("Captions are scored by pycocoevalcap, which is missing: pip install 'hpa-bench[captions]'.")
    if java and shutil.which("java") is None:
        raise UserError(
            "Captions are scored with METEOR and PTB tokens, as MCITlib scores them, and both need Java, which is"
            " missing: install a Java runtime, or score them without, on a scale of its own, by --set"
            " rules.caption=strict."
        )


def _hashable(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple((caption, tuple(references)) for caption, references in items)


# lm-eval asks for the corpus figure and evaluation for the captions' own, one after the other.
@lru_cache(maxsize=4)
def _scored(items: tuple[Item, ...], java: bool) -> tuple[float, tuple[float, ...]]:
    check_captions(java)
    from hpa_bench.data.coco import scores

    return scores(items, java)
