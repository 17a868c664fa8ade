"""Captions, scored over a whole test split by pycocoevalcap: BLEU, METEOR, ROUGE-L and CIDEr.

Metrics with names of their own, since their numbers do not compare: `coco_caption` is what MCITlib reports, the mean of
Bleu_1 to Bleu_4, METEOR, ROUGE_L and CIDEr on PTB tokens, and needs Java; `bleu_rouge_cider` is the mean without
METEOR, on plain words, and does not. `cider` and `cider_swapped` are SMoLoRA's for TextCaps and Flickr30k, on words as
they stand between spaces.

CIDEr weighs words by how many references of the split use them, so even a single caption's score depends on the split:
hence aggregations. A caption's own score is the mean of its own values; of the first two metrics the mean of these is
not the corpus figure, because BLEU and METEOR of a corpus are made from its counts, not from its sentences' scores.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import NamedTuple

from hpa_bench.errors import UserError, listed

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


def cider(items: Sequence[Item]) -> float:
    """Return CIDEr over a corpus, from 0 to 10 (SMoLoRA, TextCaps)."""
    own = _ciders(False, items)
    return sum(own) / len(own)


def cider_swapped(items: Sequence[Item]) -> float:
    """Return CIDEr over a corpus with predictions and references in each other's place (SMoLoRA, Flickr30k).

    Each prediction stands in the place of the references of its best reference, so words are weighed by how many
    predictions use them (eval_flickr30k_cider.py).
    """
    own = _ciders(True, items)
    return sum(own) / len(own)


def _per_sample(java: bool, items: Sequence[Item]) -> list[float]:
    return list(_scored(_hashable(items), java=java)[1])


CORPUS_METRICS = {
    # CIDEr goes to 10, everything else to 1.
    "coco_caption": CorpusMetric(partial(_per_sample, True), 16 / 7),
    "bleu_rouge_cider": CorpusMetric(partial(_per_sample, False), 15 / 6),
    "cider": CorpusMetric(lambda items: _ciders(False, items), 10),
    "cider_swapped": CorpusMetric(lambda items: _ciders(True, items), 10),
}
"""By name, what `hpa_bench.runner.evaluation` scores over a whole set."""


METRIC_OF = {
    "mcitlib/caption": "coco_caption",
    "smolora/caption": "cider_swapped",
    "strict/caption": "bleu_rouge_cider",
    "smolora/textcaps": "cider",
    "strict/textcaps": "bleu_rouge_cider",
}
"""By rules and kind of caption, the metric."""
KINDS = tuple(dict.fromkeys(each.split("/")[1] for each in METRIC_OF))
"""The kinds of answers that are captions."""


def caption_metric(rules: str, kind: str) -> str:
    """Return the metric by which rules score a kind of captions.

    Raises:
        UserError: they do not score such captions.
    """
    able = [each.split("/")[0] for each in METRIC_OF if each.split("/")[1] == kind]
    if rules not in able:
        kinds = "captions" if kind == KINDS[0] else f"captions of the kind {kind!r}"
        raise UserError(f"The rules {rules!r} do not score {kinds}: {listed(able)} do.")
    return METRIC_OF[f"{rules}/{kind}"]


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


@lru_cache(maxsize=4)
def _ciders_of(swapped: bool, items: tuple[Item, ...]) -> tuple[float, ...]:
    check_captions(java=False)
    from hpa_bench.data.coco import ciders

    return ciders([(_best_reference(*item), (item[0],)) for item in items] if swapped else items)


def _best_reference(said: str, references: Sequence[str]) -> str:
    """Return the reference with the highest CIDEr in a corpus of pairs of the caption with each; of equals, the first.

    A word weighs the less, the more of these references use it, and nothing where all do.
    """
    from hpa_bench.data.coco import ciders

    own = ciders([(said, (reference,)) for reference in references])
    return references[own.index(max(own))]


def _ciders(swapped: bool, items: Sequence[Item]) -> list[float]:
    return list(_ciders_of(swapped, _hashable(items)))
