"""Rules that score one answer, as the projects score that users' downloads come from, their quirks included.

A rule is a pure function of a prediction (white space around it removed, as the projects do) and of the test row, and
gives 0 to 1. `mcitlib`, `coin` and `smolora` agree with those projects' own scorers; `strict` is ours, where a quirk of
theirs is plainly a bug. Captions are scored over a whole test split (see `hpa_bench.data.captions`).
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from hpa_bench.errors import UserError, listed, shown, unknown

Row = Mapping[str, Any]
"""A row of a test file: `answer`, `text` (the question), `image`, and what its project adds."""
Rule = Callable[[str, Row], float]

OPTIONS = "ABCDE"


def rule(rules: str, kind: str) -> Rule:
    """Return the rule by which a project scores a kind of answer.

    Args:
        rules: "mcitlib", "coin", "smolora" or "strict".
        kind: of answer, as a task's YAML names it, such as "exact" or "textvqa".

    Raises:
        UserError: there are no such rules, or they do not score such answers.
    """
    if rules not in RULES:
        raise unknown("rules", rules, RULES, "(a suite's key `rules`)")
    if kind not in RULES[rules]:
        able = [name for name, scored in RULES.items() if kind in scored]
        if not able:
            raise unknown("kind of answer", kind, {kind for scored in RULES.values() for kind in scored})
        raise UserError(f"The rules {rules!r} do not score answers of the kind {kind!r}: {listed(able)} do.")
    return RULES[rules][kind]


def exact(p: str, row: Row) -> float:
    """Score equality but for case; nothing is stripped (MCITlib eval_deepseek_r1.py, CoIN eval_vqav2.py)."""
    return float(p.upper() == row["answer"].upper())


def mcitlib_lenient(p: str, row: Row) -> float:
    """Score AD and RS: the answer stands in the prediction, next to a space, a stop or a comma on one side at least.

    A word that ends in the answer counts too ("piano tuning" for "no"), as in MCITlib eval_ai2d.py.
    """
    if "Unanswerable" in p:
        return 0.0
    p, g = p.lower(), row["answer"].lower()
    if " " in g:
        return float(g in p)
    g = g.replace(".", "")
    if " " in p:
        return float(any(part in p for part in (f" {g}", f"{g} ", f"{g}.", f"{g},")))
    return float(g in p)


def mcitlib_med(p: str, row: Row) -> float:
    """Score Med: the answer stands anywhere in the prediction (MCITlib eval_pvqa.py)."""
    return float("Unanswerable" not in p and row["answer"].lower() in p.lower())


def mcitlib_sci(p: str, row: Row) -> float:
    """Score Sci by its source, which the image's name begins with (MCITlib eval_sci.py).

    Choices count when equal. Of MapQA, a list of states counts by the share found, where a state behind a comma and a
    space is another than one behind a comma; any other answer counts anywhere in the prediction.
    """
    if "Unanswerable" in p:
        return 0.0
    p, g = p.lower(), row["answer"].lower()
    if _source(row) in {"AI2D", "TQA", "VQA", "SciVerse"}:
        return float(p == g)
    if "Which states" in row["text"]:
        return _share(g.split(","), p.split(","))
    return float(g in p)


def mcitlib_fin(p: str, row: Row) -> float:
    """Score Fin: equal once all spaces and stops of the prediction are gone (MCITlib eval_finvis.py)."""
    return float("Unanswerable" not in p and p.lower().replace(" ", "").replace(".", "") == row["answer"].lower())


def mcitlib_scienceqa(p: str, row: Row) -> float:
    """Score a choice that is a letter, begins with "A. ", or is said once as "The answer is A." (MCITlib's copy)."""
    found = re.findall(r"The answer is ([A-Z]).", p)
    return _right_choice(_plain_letter(p) or (found[0] if len(found) == 1 else ""), row)


def coin_scienceqa(p: str, row: Row) -> float:
    """Score a choice that is a letter or begins with "A. ", else the first single letter ("a dog" says A).

    CoIN eval_science_qa.py.
    """
    found = re.findall(r"\b(\w)\b", p)
    return _right_choice(_plain_letter(p) or (found[0].upper() if found else ""), row)


def coin_imagenet(p: str, row: Row) -> float:
    """Score one standing in the other, so an empty prediction is right (CoIN eval_ImagetNet.py)."""
    return float(row["answer"] in p or p in row["answer"])


def coin_ocrvqa(p: str, row: Row) -> float:
    """Score equality but for case, never of "Unanswerable" (CoIN eval_ocrvqa.py)."""
    return float("Unanswerable" not in p and p.lower() == row["answer"].lower())


def coin_gqa(p: str, row: Row) -> float:
    """Score equality with the prediction in lower case, without its last stops (CoIN convert_gqa_for_eval.py)."""
    return float(p.rstrip(".").lower() == row["answer"])


def coin_grounding(p: str, row: Row) -> float:
    """Score a box that overlaps by more than half (IoU), read without the first and the last character of its numbers.

    CoIN eval_grounding.py removes the brackets and then cuts one more character on each side.
    """
    try:
        box = [float(part) for part in p.replace("[", "").replace("]", "")[1:-1].split(",")]
    except ValueError:
        return 0.0
    side = max(row["size"])
    if len(box) != 4:
        return 0.0
    return float(_overlap([x * side for x in box], [x * side for x in _box(row)]) > 0.5)


def coin_textvqa(p: str, row: Row) -> float:
    """Score agreement with ten annotators: the mean over leaving each out of min(1, matches / 3).

    CoIN m4c_evaluator.py, which is Pythia's: its period pattern strips after digits too, 32 periods at most.

    Raises:
        UserError: there are not exactly ten answers.
    """
    answers = row["answers"]
    if len(answers) != 10:
        raise UserError(f"Question {row['id']!r} of TextVQA has {len(answers)} answers: its score needs exactly 10.")
    return _agreement(vqa_words(p), [vqa_words(answer) for answer in answers])


def smolora_imagenet(p: str, row: Row) -> float:
    """Score one standing in the other whatever their case, so an empty prediction is right (eval_ImagetNet.py).

    SMoLoRA joins predictions and answers by their places in their files, which are those of the test rows.
    """
    p, g = p.lower(), row["answer"].lower()
    return float(g in p or p in g)


def smolora_classification(p: str, row: Row) -> float:
    """Score few-shot classification: as `smolora_imagenet`, for any of several answers (eval_classification.py)."""
    p = p.upper()
    return float(any(g.upper() in p or p in g.upper() for g in row.get("answers") or [row["answer"]]))


def strict_exact(p: str, row: Row) -> float:
    """Score equality but for case, runs of spaces, quotes and a final stop."""
    return float(_plain(p) == _plain(row["answer"]))


def strict_choice(p: str, row: Row) -> float:
    """Score the letter that the prediction is, begins with ("A.", "(A)", "A: dog") or ends with ("answer is A").

    An answer that is no letter is scored as `strict_exact` does.
    """
    if row["answer"].strip() not in tuple(string.ascii_uppercase):
        return strict_exact(p, row)
    found = re.match(r"\(?([A-Z])(?:[).:,]|$)", p) or re.search(r"\banswer is:? \(?([A-Z])\)?\.?$", p, re.IGNORECASE)
    return float(found is not None and found[1].upper() == row["answer"].strip())


def strict_sci(p: str, row: Row) -> float:
    """Score as `strict_choice`, and a list of states by the share of it that is found, less what was made up."""
    if "Which states" not in row["text"]:
        return strict_choice(p, row)
    wanted = [_plain(part) for part in row["answer"].split(",")]
    said = [_plain(part) for part in p.split(",")]
    return len(set(wanted) & set(said)) / len(set(wanted) | set(said))


def strict_grounding(p: str, row: Row) -> float:
    """Score a box that overlaps by at least half (IoU): the four numbers of the prediction, wherever they stand."""
    box = [float(number) for number in re.findall(r"-?\d*\.?\d+", p)]
    return float(len(box) == 4 and _overlap(box, _box(row)) >= 0.5)


def strict_textvqa(p: str, row: Row) -> float:
    """Score agreement as `coin_textvqa` does, with any number of annotators; of fewer than four, all others count."""
    return _agreement(vqa_words(p), [vqa_words(answer) for answer in row.get("answers") or [row["answer"]]])


RULES: dict[str, dict[str, Rule]] = {
    "mcitlib": {
        "exact": exact,
        "ad": mcitlib_lenient,
        "rs": mcitlib_lenient,
        "med": mcitlib_med,
        "sci": mcitlib_sci,
        "fin": mcitlib_fin,
        "scienceqa": mcitlib_scienceqa,
    },
    "coin": {
        "exact": exact,
        "scienceqa": coin_scienceqa,
        "textvqa": coin_textvqa,
        "imagenet": coin_imagenet,
        "gqa": coin_gqa,
        "ocrvqa": coin_ocrvqa,
        "grounding": coin_grounding,
    },
    "smolora": {
        "exact": exact,
        "scienceqa": coin_scienceqa,
        "textvqa": coin_textvqa,
        "imagenet": smolora_imagenet,
        "classification": smolora_classification,
        "gqa": coin_gqa,
        "ocrvqa": coin_ocrvqa,
    },
    "strict": {
        **dict.fromkeys(("exact", "ad", "rs", "med", "imagenet", "classification", "gqa", "ocrvqa"), strict_exact),
        **dict.fromkeys(("fin", "scienceqa"), strict_choice),
        "sci": strict_sci,
        "textvqa": strict_textvqa,
        "grounding": strict_grounding,
    },
}


def vqa_words(text: str) -> str:
    """Return an answer as the VQA evaluation compares it: number words as digits, no articles, no punctuation."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    found = text
    for mark in ';/[]"{}()=+\\_-><@`!':
        found = found.replace(mark, "" if f"{mark} " in text or f" {mark}" in text else " ")
    # A lookbehind for digits was meant, but a lookahead that never fails was written; and a flag passed as the count.
    found = re.sub(r"\.(?!\d)", "", found, count=int(re.UNICODE))
    words = [_NUMBERS.get(word, word) for word in found.split()]
    return " ".join(_contractions().get(word, word) for word in words if word not in {"a", "an", "the"})


_NUMBERS = {"none": "0"} | {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_ENDINGS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "'ve": "could might must not should they we what where who would you",
    "'ll": "how it somebody someone something they what who why you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
    "'d": "he how it somebody someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who y'all you",
    "n't've": "could had might should would",
}
"""Words by the ending that the evaluation puts an apostrophe into, where it was left out."""


@cache
def _contractions() -> dict[str, str]:
    found = {"maam": "ma'am", "oclock": "o'clock", "twas": "'twas", "yall": "y'all"}
    for ending, words in _ENDINGS.items():
        for whole in (word + ending for word in words.split()):
            marks = [at for at, letter in enumerate(whole) if letter == "'"]
            found |= {whole[:mark] + whole[mark + 1 :]: whole for mark in marks}
    return found


def _agreement(said: str, answers: Sequence[str]) -> float:
    # The evaluation knows no answer but the annotators' own.
    if len(answers) == 1 or said not in answers:
        return float(said in answers)
    enough = min(3, len(answers) - 1)
    others = ((*answers[:i], *answers[i + 1 :]) for i in range(len(answers)))
    return sum(min(1.0, sum(other == said for other in left) / enough) for left in others) / len(answers)


def _plain_letter(p: str) -> str:
    """Return the option that a prediction is or begins with ("A. "), else nothing."""
    return p[:1] if p in tuple(OPTIONS) or (p[:1] in tuple(OPTIONS) and p[1:3] == ". ") else ""


def _right_choice(letter: str, row: Row) -> float:
    within = letter in tuple(OPTIONS[: int(row.get("choices") or len(OPTIONS))])
    return float(within and letter == row["answer"])


def _source(row: Row) -> str:
    image = row.get("image") or ""
    return str(image if isinstance(image, str) else image[0]).split("/")[-1].split("_")[0]


def _share(wanted: Sequence[str], said: Sequence[str]) -> float:
    return sum(part in said for part in wanted) / len(wanted)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip("\"'").removesuffix(".").strip()


def _box(row: Row) -> list[float]:
    return [float(part) for part in str(row["answer_bbox"]).replace("[", "").replace("]", "").split(",")]


def check_box(row: Row, sized: bool) -> str:
    """Say what is wrong with the box of a test row, and with the image size that some rules need, or nothing."""
    try:
        right = len(_box(row)) == 4 and all(map(math.isfinite, _box(row)))
    except (KeyError, ValueError):
        right = False
    if not right:
        return f"`answer_bbox` is {shown(row.get('answer_bbox'))}, expected four numbers"
    size = row.get("size")
    if sized and not (
        isinstance(size, list)
        and len(size) == 2
        and all(isinstance(side, int | float) and 0 < side < math.inf for side in size)
    ):
        return f"`size` is {shown(size)}, expected the image's width and height"
    return ""


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection of two boxes (x1, y1, x2, y2) over their union."""
    (a1, b1, a2, b2), (c1, d1, c2, d2) = one, other
    shared = max(0, min(a2, c2) - max(a1, c1)) * max(0, min(b2, d2) - max(b1, d1))
    union = (a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - shared
    return shared / union if union > 0 else 0.0
