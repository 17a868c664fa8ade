"""Captions against values worked out by hand, and against pycocoevalcap's own evaluation where Java is there."""

import math
import shutil

import pytest

from hpa_bench.data import captions
from hpa_bench.data.captions import (
    CORPUS_METRICS,
    bleu_rouge_cider,
    caption_metric,
    check_captions,
    cider,
    cider_swapped,
    coco_caption,
)
from hpa_bench.errors import UserError

pytest.importorskip("pycocoevalcap", reason="the extra `captions` is not installed")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR and the PTB tokenizer need Java")

REFERENCES = [
    ("A man rides a horse.", "A man is on a brown horse."),
    ("Two dogs play in the snow.", "Dogs running through deep snow."),
    ("A plate of food on a wooden table.", "Food is on a plate, on a table."),
]
SAID = ["A man rides a horse", "two cats sleep", "Food on a table."]
ITEMS = list(zip(SAID, REFERENCES, strict=True))


def test_a_verbatim_reference_has_the_highest_bleu_and_rouge() -> None:
    words = "one two three four five"
    other = ("six seven eight nine ten",)

    first, second = CORPUS_METRICS["bleu_rouge_cider"].per_sample([(words, (words,)), ("one", other)])

    # Bleu_1..4 and ROUGE_L are 1, CIDEr 10: all n-grams are the reference's own and no other reference has them.
    assert first == pytest.approx(15 / 6, abs=1e-6)
    assert second == pytest.approx(0, abs=1e-3)


def test_the_corpus_figure_is_not_the_mean_of_the_captions() -> None:
    own = CORPUS_METRICS["bleu_rouge_cider"].per_sample(ITEMS)

    assert len(own) == 3 and own[0] > own[2] > own[1] >= 0
    assert not math.isclose(bleu_rouge_cider(ITEMS), sum(own) / 3, rel_tol=1e-3)


@pytest.mark.slow
@needs_java
def test_the_headline_is_that_of_cocoevalcap() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # As COCOEvalCap.evaluate does, image ids counted from 1 in order; SPICE is left out.
    gts = {i: [{"caption": text} for text in texts] for i, texts in enumerate(REFERENCES, 1)}
    gts[4], said = [{"caption": "A dog."}], [*ITEMS, ("", ("A dog.",))]
    res = {i: [{"caption": text or "."}] for i, (text, _) in enumerate(said, 1)}
    gts, res = PTBTokenizer().tokenize(gts), PTBTokenizer().tokenize(res)
    values = list(Bleu(4).compute_score(gts, res, verbose=0)[0])
    values += [scorer.compute_score(gts, res)[0] for scorer in (Meteor(), Rouge(), Cider())]

    assert coco_caption(said) == pytest.approx(sum(values) / 7)
    assert CORPUS_METRICS["coco_caption"].per_sample(said)[3] == pytest.approx(0, abs=1e-3)


TWICE = [
    ("a dog runs on grass .", ("A dog runs on grass .", "a dog runs on grass .", "grass")),
    ("a man rides a horse .", ("a man rides a horse .", "a rider")),
    ("", ("a plate of food", "food")),
    ("Food on a table", ("a man rides a horse .", "Food on a table", "Food on a table")),
    ("a a a a a", ("a", "a dog")),
]
"""Edge cases: the first reference is not the best by words, an empty prediction, one word over and over."""


def test_captions_of_flickr30k_are_scored_in_two_passes_with_swapped_roles() -> None:
    """As SMoLoRA does: the best reference by a corpus of a caption's own pairs, then the corpus with roles swapped."""
    import numpy as np
    from pycocoevalcap.cider.cider import Cider

    best = {}
    for number, (said, references) in enumerate(TWICE):
        pairs = {place: [reference] for place, reference in enumerate(references)}
        _, own = Cider().compute_score(pairs, {place: [said] for place in pairs})
        best[number] = [references[np.argmax(own)]]
    assert [TWICE[number][1].index(reference) for number, (reference,) in best.items()] == [1, 0, 0, 1, 0]
    whole, each = Cider().compute_score({number: [said] for number, (said, _) in enumerate(TWICE)}, best)

    assert cider_swapped(TWICE) == pytest.approx(whole) and whole > 0
    assert CORPUS_METRICS["cider_swapped"].per_sample(TWICE) == pytest.approx(list(each))
    assert cider_swapped(TWICE) != pytest.approx(cider(TWICE))


def test_captions_of_textcaps_are_scored_against_all_references() -> None:
    from pycocoevalcap.cider.cider import Cider

    references = {number: list(wanted) for number, (_, wanted) in enumerate(TWICE)}
    whole, each = Cider().compute_score(references, {number: [said] for number, (said, _) in enumerate(TWICE)})

    assert cider(TWICE) == pytest.approx(whole)
    assert CORPUS_METRICS["cider"].per_sample(TWICE) == pytest.approx(list(each))


def test_words_stand_between_spaces() -> None:
    two = [("a red dog .", ("a red dog .",)), ("one blue cat", ("one blue cat",))]
    glued = [("a red dog.", ("a red dog .",)), two[1]]
    upper = [("A red dog .", ("a red dog .",)), two[1]]

    # Of four words there are no longer n-grams than four, and the other caption has three words.
    assert cider(two) == pytest.approx(10 * (1 + 3 / 4) / 2)
    assert cider(two) > cider(upper) > cider(glued) > 0


def test_rules_that_do_not_score_captions_are_told() -> None:
    assert caption_metric("smolora", "caption") == "cider_swapped"
    with pytest.raises(UserError, match="The rules 'coin' do not score captions: mcitlib, smolora and strict do"):
        caption_metric("coin", "caption")
    with pytest.raises(UserError, match="do not score captions of the kind 'textcaps': smolora and strict do"):
        caption_metric("mcitlib", "textcaps")


def test_without_java_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(UserError, match="need Java, which is missing: .* --set rules.caption=strict"):
        check_captions(java=True)
    check_captions(java=False)


def test_without_the_extra_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "find_spec", lambda name: None)

    with pytest.raises(UserError, match=r"pip install 'hpa-bench\[captions\]'"):
        check_captions(java=False)
