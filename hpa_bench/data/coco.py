"""What `hpa_bench.data.captions` puts together of pycocoevalcap, imported once that is known to be there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer


def scores(items: Sequence[tuple[str, tuple[str, ...]]], java: bool) -> tuple[float, tuple[float, ...]]:
    """Return the mean of the metrics over a corpus, and that of each caption's own values.

    Args:
        items: captions and the references that each is compared with.
        java: whether to take METEOR in, and PTB tokens in place of lower-case words; both need Java.
    """
    tokens = _ptb_tokens if java else _words
    said = tokens([[caption] for caption, _ in items])
    references = tokens([list(wanted) for _, wanted in items])
    scorers: list[Any] = [partial(Bleu(4).compute_score, verbose=0), Rouge().compute_score, Cider().compute_score]
    if java:
        scorers.append(Meteor().compute_score)
    corpus: list[float] = []
    samples: list[Sequence[float]] = []
    for score in scorers:
        whole, each = score(references, said)
        several = isinstance(whole, list)
        corpus += whole if several else [float(whole)]
        samples += each if several else [each]
    own = tuple(float(sum(values) / len(values)) for values in zip(*samples, strict=True))
    return float(sum(corpus) / len(corpus)), own


def ciders(items: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[float, ...]:
    """Return the CIDEr of each caption, from 0 to 10, on words as they stand between spaces.

    Args:
        items: captions and the references that each is compared with.
    """
    said = {index: [caption] for index, (caption, _) in enumerate(items)}
    references = {index: list(wanted) for index, (_, wanted) in enumerate(items)}
    return tuple(float(score) for score in Cider().compute_score(references, said)[1])


def _words(texts: Sequence[Sequence[str]]) -> dict[int, list[str]]:
    return {index: [" ".join(re.findall(r"\w+", text.lower())) for text in row] for index, row in enumerate(texts)}


def _ptb_tokens(texts: Sequence[Sequence[str]]) -> dict[int, list[str]]:
    # An empty last line would be lost; punctuation is removed anyway.
    rows = {index: [{"caption": text.strip() or "."} for text in row] for index, row in enumerate(texts)}
    return PTBTokenizer().tokenize(rows)
