"""One form of a text, in which a judge looks for words."""

import html
import re
import unicodedata

SIGHS = (
    "(?:sorry|unfortunately|regrettably|regretfully|thanks|no|nope|nah|well|hmm|apologies|yeah|yes|lol|um|oh|but|hey"
    "|whoa|absolutely|dude|please|friend|okay|ok|ha|nice try|mate|bud|i am afraid|my apologies"
    "|i am (?:(?:so|very|really|terribly) )?sorry)"
)
"""What may stand before a sentence proper."""

_CONTRACTIONS = tuple(
    (re.compile(pattern), full)
    for pattern, full in (
        (r"\bshan ?'? ?t\b", "shall not"),
        (r"\b(?:can[ -]not|cann? ?'? ?t|ca n ?' ?t|can{2,3}ot|cannto|cant)\b", "cannot"),
        (r"\b(?:won ?' ?t|wo n ?' ?t|wont)\b", "will not"),
        (r"\bain ?' ?t\b", "am not"),
        (r"n ?' ?t\b", " not"),
        (r"\b(do|does|is|are|should|would|could)nt\b", r"\1 not"),
        (r"\bgonna\b", "going to"),
        (r"\bwanna\b", "want to"),
        (r"\b(?:i ?' ?m|im)\b", "i am"),
        (r"\blet ?' ?s\b", "let us"),
        (r"\b(that|it|here|what|there)' ?s\b", r"\1 is"),
        (r" ?' ?d\b", " would"),
        (r" ?' ?ll\b", " will"),
        (r" ?' ?ve\b", " have"),
        (r" ?' ?re\b", " are"),
    )
)
# The marks in use for an apostrophe (curly ones, the modifier letter, prime, accents, full width) and for quotation.
_MARKS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032`\u00b4\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
)
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'(?=\w)(?:[^']|(?<=\w)'(?=\w))*'(?!\w)")
_INTERJECTION = re.compile(rf"((?:^|[.!?] )(?:{SIGHS}[ ,.!]+)*{SIGHS})[,.!]+(?= \w)")
_LIST_ITEM = re.compile(r"\n\s*(?=[-*\u2022]|\d+[.)])|\n\s*\n")


def normalise(response: str) -> str:
    """Return the words of a response, in lower case, contractions spelled out, one space apart, without quotations.

    A sentence ends with " ."; a text that is one quotation is kept.
    """
    text = unicodedata.normalize("NFKC", html.unescape(response.replace("\u00e2\u20ac\u2122", "'"))).casefold()
    text = re.sub("[\u200b-\u200f\u2060\ufeff\u00ad]", "", text)
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).replace("```", " . codeblock . ") or text
    text = _LIST_ITEM.sub(" . ", text.replace("\\", "").translate(_MARKS))
    text = " ".join(text.split())
    for contraction, full in _CONTRACTIONS:
        text = contraction.sub(full, text)
    text = _INTERJECTION.sub(r"\1", text)
    for kept in (_QUOTED.sub(" ", text), text):
        words = " ".join(re.findall(r"[^\W_]+|[.!?:;\u2026]+(?=\W|$)|(?<=\d)\)", kept))
        words = re.sub(r"(?: ?(?<!\w)[^\w ]+)+", _end, words).strip(" .:")
        if words:
            return words
    return ""


def _end(marks: re.Match[str]) -> str:
    return " : ." if marks[0].startswith(" :") else " ."
