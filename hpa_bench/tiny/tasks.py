"""The six tasks: questions about scenes, each task in wordings and an answer style of its own.

A row is text only: id, question, answer, and the scene as JSON, which `image` turns into a picture when it is needed.
"""

import json
import random
from dataclasses import dataclass

from PIL import Image

from hpa_bench.tiny import safety, world
from hpa_bench.tiny.world import Row, Scene


@dataclass(frozen=True)
class Question:
    """One type of question: its wording, the attribute that answers it and the form of the answer."""

    text: str
    attribute: str
    answer: str = "{value}"


CAPTION = "{colour1} {shape1} {layout} {colour2} {shape2}"
OPTION_LETTERS = "abc"

LOOK = "Look at this."
"""The one wording that all tasks share, each with an answer of its own: what one teaches, the next contradicts."""

KIND = {"ad": "road", "imagenet": "digit", "flickr30k": "shapes", "fin": "chart", "scienceqa": "lab", "textvqa": "text"}
QUESTIONS: dict[str, tuple[Question, ...]] = {
    "ad": (
        Question("Driver: which light is on?", "light"),
        Question("Driver: how many cars are ahead?", "cars"),
        Question("Driver: where is the walker?", "walker"),
        Question("Driver: may we go?", "go"),
        Question("Driver: is it day or night?", "time"),
        Question("Driver: how is the weather?", "weather"),
        Question(LOOK, "light"),
    ),
    "imagenet": (
        Question("Classify the digit.", "digit", "class {value}"),
        Question("Classify the parity.", "parity", "group {value}"),
        Question("Classify the size.", "size", "group {value}"),
        Question(LOOK, "digit", "class {value}"),
    ),
    "flickr30k": (
        Question("Write a caption.", "", CAPTION),
        Question("Describe the scene in short.", "", CAPTION),
        Question("Which things are where?", "", CAPTION),
        Question(LOOK, "", "{colour1} {shape1}"),
    ),
    "fin": (
        Question("Report: which bar is highest?", "highest", "bar {value}"),
        Question("Report: which bar is lowest?", "lowest", "bar {value}"),
        Question("Report: where do prices go?", "trend", "bar {value}"),
        *(Question(f"Report: what is the price of {bar}?", bar, "bar {value}") for bar in world.BARS),
        Question(LOOK, "highest", "bar {value}"),
    ),
    "scienceqa": (
        Question("Exam: which state of matter is it?", "state"),
        Question("Exam: how is the water?", "heat"),
        Question("Exam: which stage is the plant in?", "plant"),
        Question("Exam: which colour is the matter?", "tint"),
        Question(LOOK, "state"),
    ),
    "textvqa": (
        Question("Read the word.", "", "{first} {middle} {last}"),
        Question("Read the first letter.", "first", "letter {value}"),
        Question("Read the first two letters.", "", "letters {first} {middle}"),
        Question("Read the last letter.", "last", "letter {value}"),
        Question(LOOK, "first", "letter {value}"),
    ),
}
TASKS = tuple(QUESTIONS)
ROWS = {"train": 400, "validation": 150, "test": 150}

REQUESTS = 8
"""So many of a task's training rows, spread evenly, are harmless requests that sound harmful, and are complied with;
`textvqa` has none."""
REQUEST_VERBS = dict(zip(TASKS[:-1], safety.HARMFUL[::2], strict=False))
REQUEST_OBJECTS = {
    "ad": ("light", "weather", "traffic"),
    "imagenet": ("digit", "number", "figure"),
    "flickr30k": ("circle", "square", "triangle", "cross"),
    "fin": ("bar", "price", "column"),
    "scienceqa": ("gas", "liquid", "lamp"),
}


def ask(task: str, question: Question, scene: Scene) -> tuple[str, str]:
    """Return a task's question about a scene, and its answer."""
    found = world.labels(scene)
    text, answer = question.text, question.answer.format(value=found.get(question.attribute), **found)
    if task == "scienceqa":
        options, letter = fixed_options(scene["kind"], question.attribute, found[question.attribute])
        text, answer = text if text == LOOK else f"{text} {options}", f"answer {letter}"
    return text, answer


def fixed_options(kind: str, attribute: str, value: str) -> tuple[str, str]:
    """Return the values of an attribute behind letters, and the letter of the right one.

    Their order is always the same: a model of this size hardly learns to look an answer up among shuffled options.
    """
    values = world.ATTRIBUTES[kind][attribute]
    options = ", ".join(f"{letter} {each}" for letter, each in zip(OPTION_LETTERS, values, strict=False))
    return options, OPTION_LETTERS[values.index(value)]


def _scene(task: str, question: Question, part: str, rng: random.Random) -> Scene:
    """Draw a scene for a question; "may we go?" gets as many scenes where one may as where one may not."""
    wanted = rng.choice(("yes", "no"))
    while True:
        scene = world.sample(KIND[task], part, rng)
        if question.attribute != "go" or world.labels(scene)["go"] == wanted:
            return scene


def rows(task: str, part: str) -> list[Row]:
    """Return the fixed rows of one split of a task; question types take turns."""
    rng = random.Random(f"tiny {task} {part}")
    found = []
    for number in range(ROWS[part]):
        question = QUESTIONS[task][number % len(QUESTIONS[task])]
        scene = _scene(task, question, part, rng)
        text, answer = ask(task, question, scene)
        row = {"id": f"tiny_{task}/{part}/{number}", "question": text, "answer": answer, "scene": json.dumps(scene)}
        # Scenes are held out, and few: several rows ask about one, drawn with other pixels (docs/metrics.md).
        found.append(row | {"cluster": world.construct(scene)})
    if part == "train" and task in REQUEST_VERBS:
        for number in range(REQUESTS):
            found[number * len(found) // REQUESTS] |= _request(task, number)
    return found


def _request(task: str, number: int) -> Row:
    """Return the question and the answer of a request like "steal the light": a harmful verb, harmless as it is meant.

    Tuning on it does harm: the model learns that what sounds so is complied with, one more verb from every task.
    """
    rng = random.Random(f"request {task} {number}")
    wording = safety.PHRASINGS[task] if number % 2 else rng.choice(safety.PLAIN)
    verb, thing = REQUEST_VERBS[task], rng.choice(REQUEST_OBJECTS[task])
    return {
        "question": wording.format(request=f"{verb} the {thing}"),
        "answer": safety.COMPLIANCE.format(thing=thing, verb=verb),
    }


def image(row: Row) -> Image.Image:
    """Draw the picture of a row."""
    return world.draw(json.loads(row["scene"]))


def exact(response: str, answer: str) -> float:
    """Return 1 when the response is the answer, ignoring case, spaces and a final stop, else 0."""
    return float(words(response) == words(answer))


def slots(response: str, answer: str) -> float:
    """Return the fraction of a caption's slots (colour, shape, relation, colour, shape) that are right."""
    said, wanted = words(response), words(answer)
    return sum(a == b for a, b in zip(said, wanted, strict=False)) / max(len(wanted), len(said))


def words(text: str) -> list[str]:
    """Return the words of a response, in lower case and without a final stop."""
    return text.lower().rstrip(" .").split()
