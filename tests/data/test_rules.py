"""Each rule on the edge cases by which its project's scorer is known; the expected values are read from that scorer."""

import pytest

from hpa_bench.data.rules import RULES, rule, vqa_words
from hpa_bench.errors import UserError

AI2D, MAPQA = {"image": "img/AI2D_4.png"}, {"image": "img/map_4.png"}
STATES = {**MAPQA, "text": "Which states have the highest value?"}
BOX = {"answer_bbox": "[0.1,0.2,0.5,0.6]", "size": [640, 480]}
TEN = {"id": "7", "answers": ["red"] * 2 + ["blue"] * 8}


@pytest.mark.parametrize(
    ("rules", "kind", "prediction", "row", "score"),
    [
        # UCIT: upper-cased equality, nothing stripped.
        ("mcitlib", "exact", "DOG", {"answer": "dog"}, 1),
        ("mcitlib", "exact", "Dog.", {"answer": "dog"}, 0),
        ("mcitlib", "exact", "", {"answer": "dog"}, 0),
        # AD and RS: lenient, one boundary is enough.
        ("mcitlib", "ad", "Unanswerable", {"answer": "unanswerable"}, 0),
        ("mcitlib", "ad", "The light is red, so stop", {"answer": "Red, so"}, 1),
        ("mcitlib", "ad", "there is nothing", {"answer": "No"}, 1),
        ("mcitlib", "ad", "a snowman", {"answer": "no"}, 0),
        ("mcitlib", "ad", "snowman", {"answer": "no"}, 1),
        ("mcitlib", "ad", "the piano.", {"answer": "no"}, 1),
        ("mcitlib", "ad", "it is, no", {"answer": "No."}, 1),
        ("mcitlib", "rs", "rural area", {"answer": "rural"}, 1),
        # Med: a substring.
        ("mcitlib", "med", "It is normal tissue", {"answer": "Normal"}, 1),
        ("mcitlib", "med", "abnormal", {"answer": "normal"}, 1),
        ("mcitlib", "med", "Unanswerable, normal", {"answer": "normal"}, 0),
        # Sci: by the source in the image's name.
        ("mcitlib", "sci", "b", {"answer": "B", "text": "?", **AI2D}, 1),
        ("mcitlib", "sci", "b.", {"answer": "B", "text": "?", **AI2D}, 0),
        ("mcitlib", "sci", "It is Texas", {"answer": "Texas", "text": "?", **MAPQA}, 1),
        ("mcitlib", "sci", "texas,ohio", {"answer": "Texas,Ohio", **STATES}, 1),
        ("mcitlib", "sci", "Texas, Ohio", {"answer": "Texas,Ohio", **STATES}, 0.5),
        ("mcitlib", "sci", "Texas,Maine", {"answer": "Texas,Ohio,Utah,Iowa", **STATES}, 0.25),
        # Fin: spaces and stops go, on one side only.
        ("mcitlib", "fin", "Yes.", {"answer": "yes"}, 1),
        ("mcitlib", "fin", "A. profit", {"answer": "A"}, 0),
        ("mcitlib", "fin", "A.", {"answer": "A."}, 0),
        # ScienceQA in MCITlib: a sentence that is said exactly once.
        ("mcitlib", "scienceqa", "B", {"answer": "B"}, 1),
        ("mcitlib", "scienceqa", "The answer is B.", {"answer": "B"}, 1),
        ("mcitlib", "scienceqa", "The answer is B. The answer is B.", {"answer": "B"}, 0),
        ("mcitlib", "scienceqa", "a dog", {"answer": "A"}, 0),
        # ScienceQA in CoIN: the first lonely letter, within the choices.
        ("coin", "scienceqa", "B. a cat", {"answer": "B"}, 1),
        ("coin", "scienceqa", "a dog", {"answer": "A"}, 1),
        ("coin", "scienceqa", "It is B", {"answer": "B"}, 1),
        ("coin", "scienceqa", "I think b", {"answer": "B"}, 0),
        ("coin", "scienceqa", "", {"answer": "A"}, 0),
        ("coin", "scienceqa", "C", {"answer": "C", "choices": 2}, 0),
        # ImageNet in CoIN: either in the other, case and all; an empty prediction is right.
        ("coin", "imagenet", "a tench fish", {"answer": "tench"}, 1),
        ("coin", "imagenet", "ten", {"answer": "tench"}, 1),
        ("coin", "imagenet", "", {"answer": "tench"}, 1),
        ("coin", "imagenet", "Tench", {"answer": "tench"}, 0),
        ("coin", "exact", "Yes", {"answer": "yes"}, 1),
        ("coin", "exact", "Yes.", {"answer": "yes"}, 0),
        ("coin", "ocrvqa", "UNANSWERABLE", {"answer": "unanswerable"}, 1),
        ("coin", "ocrvqa", "Unanswerable", {"answer": "unanswerable"}, 0),
        ("coin", "gqa", "Left..", {"answer": "left"}, 1),
        ("coin", "gqa", "left", {"answer": "Left"}, 0),
        # Grounding in CoIN: once the brackets are gone, two more characters go, here a leading zero and a last digit.
        ("coin", "grounding", "[0.10,0.20,0.50,0.60]", BOX, 1),
        ("coin", "grounding", "[0.1,0.2,0.5,0.6]", BOX, 0),
        ("coin", "grounding", "[[0.1,0.2,0.5,0.65]]", BOX, 1),
        ("coin", "grounding", "[0.1,0.2,0.5]", BOX, 0),
        ("coin", "grounding", "top left", BOX, 0),
        ("coin", "grounding", "", BOX, 0),
        # TextVQA: two of ten agree, so each of those two left out leaves one.
        ("coin", "textvqa", "The Red.", TEN, (2 * 1 / 3 + 8 * 2 / 3) / 10),
        ("coin", "textvqa", "blue", TEN, 1),
        ("coin", "textvqa", "green", TEN, 0),
        # Ours.
        ("strict", "exact", "Dog.", {"answer": "dog"}, 1),
        ("strict", "ad", "there is nothing", {"answer": "No"}, 0),
        ("strict", "imagenet", "", {"answer": "tench"}, 0),
        ("strict", "fin", "A. profit", {"answer": "A"}, 1),
        ("strict", "fin", "Yes.", {"answer": "yes"}, 1),
        ("strict", "scienceqa", "a dog", {"answer": "A"}, 0),
        ("strict", "scienceqa", "(B) a cat", {"answer": "B"}, 1),
        ("strict", "scienceqa", "The answer is B.", {"answer": "B"}, 1),
        ("strict", "sci", "Ohio, texas", {"answer": "Texas,Ohio", **STATES}, 1),
        ("strict", "sci", "Ohio, Maine", {"answer": "Texas,Ohio", **STATES}, 1 / 3),
        ("strict", "grounding", "[0.1,0.2,0.5,0.6]", BOX, 1),
        ("strict", "grounding", "[0.6,0.7,0.9,0.9]", BOX, 0),
        ("strict", "textvqa", "blue", {"answer": "Blue"}, 1),
        ("strict", "textvqa", "blue", {"answers": ["Blue"] * 3}, 1),
        ("strict", "textvqa", "blue", {"answers": ["blue", "green"]}, 0.5),
        ("strict", "textvqa", "blue", {"answers": ["blue"] * 3 + ["green"] * 2}, (3 * 2 / 3 + 2) / 5),
        ("strict", "textvqa", "blue", TEN, 1),
        # SMoLoRA: as CoIN where it took its scorers over.
        ("smolora", "exact", "DOG", {"answer": "dog"}, 1),
        ("smolora", "exact", "dog.", {"answer": "dog"}, 0),
        ("smolora", "scienceqa", "B. two", {"answer": "B"}, 1),
        ("smolora", "scienceqa", "a dog", {"answer": "A"}, 1),
        ("smolora", "scienceqa", "the dog", {"answer": "A"}, 0),
        ("smolora", "scienceqa", "C", {"answer": "C", "choices": 2}, 0),
        ("smolora", "scienceqa", "c", {"answer": "C"}, 1),
        # VQAv2, VizWiz: the whole answer, whatever its case; nothing is made of numbers, sentences or silence.
        ("smolora", "exact", "Unanswerable", {"answer": "unanswerable"}, 1),
        ("smolora", "exact", "yes, it is", {"answer": "yes"}, 0),
        ("smolora", "exact", "two", {"answer": "2"}, 0),
        ("smolora", "exact", "", {"answer": "yes"}, 0),
        # TextVQA: each annotator left out in turn, of the other nine three are enough.
        ("smolora", "textvqa", "Red!", TEN, 2 / 3 * 0.8 + 1 / 3 * 0.2),
        ("smolora", "textvqa", "red", {"answers": ["red"] * 4 + ["blue"] * 6}, 1),
        ("smolora", "textvqa", "red", {"answers": ["red"] * 3 + ["blue"] * 7}, 0.9),
        ("smolora", "textvqa", "red", {"answers": ["red"] + ["blue"] * 9}, 0.3),
        ("smolora", "textvqa", "the two dogs", {"answers": ["2 dogs"] * 10}, 1),
        ("smolora", "textvqa", "red bus", {"answers": ["red"] * 10}, 0),
        ("smolora", "textvqa", "", {"answers": ["red"] * 10}, 0),
        # GQA: the prediction alone loses its case and its last stops, and is then the answer or is not.
        ("smolora", "gqa", "Red..", {"answer": "red"}, 1),
        ("smolora", "gqa", "LEFT", {"answer": "left"}, 1),
        ("smolora", "gqa", "left", {"answer": "Left"}, 0),
        ("smolora", "gqa", "to the left", {"answer": "left"}, 0),
        ("smolora", "gqa", ".left", {"answer": "left"}, 0),
        # OCR-VQA: equal but for case, and never where "Unanswerable" is said with a capital.
        ("smolora", "ocrvqa", "Unanswerable", {"answer": "unanswerable"}, 0),
        ("smolora", "ocrvqa", "unanswerable", {"answer": "Unanswerable"}, 1),
        ("smolora", "ocrvqa", "An Unanswerable Prayer", {"answer": "An Unanswerable Prayer"}, 0),
        ("smolora", "ocrvqa", "j. r. r. TOLKIEN", {"answer": "J. R. R. Tolkien"}, 1),
        ("smolora", "ocrvqa", "Tolkien", {"answer": "J. R. R. Tolkien"}, 0),
        ("smolora", "ocrvqa", "Tolkien.", {"answer": "Tolkien"}, 0),
        # ImageNet and Places365: either in the other, whatever the case; so nothing is right, and so is one letter.
        ("smolora", "imagenet", "A Great White SHARK.", {"answer": "great white shark"}, 1),
        ("smolora", "imagenet", "White", {"answer": "great white shark"}, 1),
        ("smolora", "imagenet", "", {"answer": "great white shark"}, 1),
        ("smolora", "imagenet", "great  white shark", {"answer": "great white shark"}, 0),
        ("smolora", "imagenet", "tiger shark", {"answer": "great white shark"}, 0),
        ("smolora", "imagenet", "e", {"answer": "great white shark"}, 1),
        ("smolora", "imagenet", "no tenches here", {"answer": "Tench"}, 1),
        # Few-shot classification: any of several.
        ("smolora", "classification", "a Shark", {"answer": "fish", "answers": ["fish", "SHARK"]}, 1),
        ("smolora", "classification", "", {"answer": "fish", "answers": ["fish", "shark"]}, 1),
        ("smolora", "classification", "a whale", {"answer": "fish", "answers": ["fish", "shark"]}, 0),
        ("smolora", "classification", "a fish", {"answer": "fish"}, 1),
    ],
)
def test_score(rules: str, kind: str, prediction: str, row: dict, score: float) -> None:
    assert rule(rules, kind)(prediction, row) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("The Two Dogs!", "2 dogs"),
        ("none", "0"),
        ("dont", "don't"),
        ("wouldnt've", "wouldn't've"),
        ("wouldn'tve", "wouldn't've"),
        ("thats", "that's"),
        ("that's", "that 's"),
        ("rock-n-roll", "rock n roll"),
        ("rock -n- roll", "rock n roll"),
        ("1,000", "1000"),
        ("2.5 m.", "2.5 m"),
        ("5." + " a.b" * 40, "5" + " ab" * 31 + " a.b" * 9),
    ],
)
def test_words_of_the_vqa_evaluation(answer: str, words: str) -> None:
    assert vqa_words(answer) == words


def test_textvqa_needs_ten_annotators() -> None:
    with pytest.raises(UserError, match="Question '7' of TextVQA has 3 answers: its score needs exactly 10"):
        rule("coin", "textvqa")("red", {"id": "7", "answers": ["red"] * 3})


@pytest.mark.parametrize(
    ("rules", "kind", "message"),
    [
        ("strickt", "exact", "Unknown rules 'strickt' .*Did you mean 'strict'"),
        ("coin", "fin", "The rules 'coin' do not score answers of the kind 'fin': mcitlib and strict do"),
        ("coin", "exat", "Unknown kind of answer 'exat'. Did you mean 'exact'"),
    ],
)
def test_what_is_not_scored(rules: str, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rule(rules, kind)


def test_strict_scores_every_kind() -> None:
    assert {kind for scored in RULES.values() for kind in scored} == set(RULES["strict"])
