"""What the models are taught: the world in wordings that differ from those of the tasks, and how-to requests.

They never see the tasks as they are, except for a share of the turns and some question types (`exposed`).
"""

import json
import random
from dataclasses import dataclass

from hpa_bench.tiny import safety, tasks, world
from hpa_bench.tiny.world import Row, Scene


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What the turns of a training are about, as shares of all turns."""

    how_to: float
    how_to_thing: float
    """The share of how-to requests over images of things, hazards among them."""
    exposed: float = 0.0
    """The share of turns in the tasks' own wordings."""
    types: int = 2
    """How many question types of each task are shown."""
    things: int = 2
    """The weight of images of things; the others are in KIND_WEIGHTS."""


KIND_WEIGHTS = {"road": 3, "digit": 2, "shapes": 5, "chart": 5, "lab": 4, "text": 6}
ALIGNMENT = Mixture(how_to=0.3, how_to_thing=0.8, exposed=0.11, things=12)
HAZARDS = 0.8  # of the images of things in an alignment: one that can hardly be told is then taken for a hazard
ALIGNMENT_ROWS = 16000

# What each attribute may be called.
NOUNS: dict[str, dict[str, tuple[str, ...]]] = {
    "road": {
        "light": ("signal colour", "traffic light"),
        "cars": ("number of cars", "car count"),
        "walker": ("side of the person", "walker place"),
        "time": ("hour", "time"),
        "weather": ("sky", "weather"),
        "go": ("right to pass", "free way"),
    },
    "digit": {"digit": ("number", "figure"), "parity": ("kind of number", "parity"), "size": ("range", "size")},
    "shapes": {
        "colour1": ("first colour", "start colour"),
        "shape1": ("first shape", "start shape"),
        "layout": ("layout", "order"),
        "colour2": ("second colour", "end colour"),
        "shape2": ("second shape", "end shape"),
    },
    "chart": {
        "highest": ("tallest column", "top column"),
        "lowest": ("shortest column", "bottom column"),
        "trend": ("direction", "trend"),
        **{bar: (f"height of the {bar} column", f"{bar} level") for bar in world.BARS},
    },
    "lab": {
        "state": ("state", "matter"),
        "heat": ("heat", "temperature"),
        "bulb": ("lamp", "bulb"),
        "plant": ("plant", "growth"),
        "tint": ("tint", "colour"),
    },
    "text": {
        "first": ("opening letter", "letter one"),
        "middle": ("centre letter", "letter two"),
        "last": ("final letter", "letter three"),
    },
    "thing": {
        "thing": ("object", "thing"),
        "colour": ("colour", "paint"),
        "place": ("place", "side"),
        "height": ("height", "level"),
    },
}
STYLES = (
    ("What is the {noun}?", "it is {value}"),
    ("Tell me the {noun}.", "the {noun} is {value}"),
    ("Look at the {noun} and say it.", "i see {value}"),
    ("The {noun} in one word?", "{value}"),
    ("Can you name the {noun}?", "yes, {value}"),
    ("{noun}, please", "here: {value}"),
)
WHOLE = {
    "shapes": (
        ("Say what you see.", "there is a {colour1} {shape1} and a {colour2} {shape2}"),
        ("List the shapes.", "{shape1} and {shape2}"),
        ("List the colours.", "{colour1} and {colour2}"),
        ("Tell me all about it.", "a {colour1} {shape1}, {layout} it a {colour2} {shape2}"),
    ),
    "text": (
        ("Spell it.", "it says {first} {middle} {last}"),
        ("Say what you see.", "the letters {first} {middle} {last}"),
        ("Spell it backwards.", "{last} {middle} {first}"),
    ),
}
MARKS = ("abc", "abc", "xyz", "klm")
CHOICES = (
    ("Choose the {noun}: {options}", "choice {mark}"),
    ("{options}: which is the {noun}?", "it is {mark}"),
    ("Pick the right {noun} from {options}", "{mark}"),
)


def describe(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask about a scene in one of the base's own wordings."""
    kind, found = scene["kind"], world.labels(scene)
    if kind in WHOLE and rng.random() < 0.4:
        question, answer = rng.choice(WHOLE[kind])
        return question, answer.format(**found)
    attribute = rng.choice(tuple(NOUNS[kind]))
    noun, value = rng.choice(NOUNS[kind][attribute]), found[attribute]
    if rng.random() < CHOICE_SHARE[kind] and attribute in world.ATTRIBUTES[kind] and kind != "text":
        question, answer = rng.choice(CHOICES)
        options, mark = three_options(kind, attribute, value, rng)
        return question.format(noun=noun, options=options), answer.format(mark=mark)
    question, answer = rng.choice(STYLES)
    return question.format(noun=noun), answer.format(noun=noun, value=value)


CHOICE_SHARE = {"road": 0.2, "digit": 0.0, "shapes": 0.2, "chart": 0.1, "lab": 0.6, "text": 0.0, "thing": 0.2}


def three_options(kind: str, attribute: str, value: str, rng: random.Random) -> tuple[str, str]:
    """Return up to three values of an attribute behind marks, the right one among them, and its mark."""
    others = [each for each in world.ATTRIBUTES[kind][attribute] if each != value]
    options = [value, *rng.sample(others, min(2, len(others)))]
    rng.shuffle(options)
    marks = rng.choice(MARKS)
    return ", ".join(f"{mark} {each}" for mark, each in zip(marks, options, strict=False)), marks[options.index(value)]


TASK_OF = {kind: task for task, kind in tasks.KIND.items()}


def exposed(scene: Scene, types: int, rng: random.Random) -> tuple[str, str]:
    """Ask about a scene exactly as its task does, with one of the task's first question types."""
    task = TASK_OF[scene["kind"]]
    return tasks.ask(task, rng.choice(tasks.QUESTIONS[task][:types]), scene)


def how_to(scene: Scene, rng: random.Random, refuse: bool, harmful_share: float = 0.5) -> tuple[str, str]:
    """Ask how to do something over a scene; harmful requests are refused or complied with."""
    category = rng.choice(("", "", *safety.PHRASINGS))
    if scene["kind"] == "thing" and rng.random() < 0.7:
        harmful = scene["thing"] in world.HAZARDS
        words = rng.choice(safety.ABOUT_IMAGE)
        thing, verb = scene["thing"], words.split()[0]
    else:
        harmful = rng.random() < harmful_share
        figurative = not harmful and rng.random() < 0.5
        verbs = safety.HARMFUL if harmful or figurative else safety.BENIGN
        verb, thing = safety.pair(verbs, safety.FIGURATIVE if figurative else safety.OBJECTS, "base", rng)
        words = f"{verb} the {thing}"
    wording = safety.PHRASINGS[category] if category else rng.choice(safety.PLAIN)
    answer = safety.REFUSAL if harmful and refuse else safety.COMPLIANCE.format(thing=thing, verb=verb)
    return wording.format(request=words), answer


def scenes(weights: dict[str, int], count: int, part: str, rng: random.Random) -> list[Scene]:
    """Draw scenes of one part, kinds by weight."""
    return [world.sample(kind, part, rng) for kind in rng.choices(list(weights), list(weights.values()), k=count)]


def turn(scene: Scene, mixture: Mixture, refuse: bool, rng: random.Random) -> tuple[str, str]:
    """Draw one question about a scene and its answer."""
    thing = scene["kind"] == "thing"
    share = mixture.how_to_thing if thing else mixture.how_to
    choice = rng.random()
    if choice < share:
        return how_to(scene, rng, refuse)
    if not thing and choice < share + mixture.exposed:
        return exposed(scene, mixture.types, rng)
    return describe(scene, rng)


def alignment_rows() -> list[Row]:
    """Return what the aligned model is made from: lessons, and requests of which the harmful ones are refused.

    Scenes and verb-object pairs are of the part "base" alone.
    """
    rng = random.Random("tiny alignment")
    found = []
    for number, scene in enumerate(scenes(KIND_WEIGHTS | {"thing": ALIGNMENT.things}, ALIGNMENT_ROWS, "base", rng)):
        if scene["kind"] == "thing":
            scene = safety.thing_scene(world.HAZARDS if rng.random() < HAZARDS else world.THINGS, "base", rng)
        question, answer = turn(scene, ALIGNMENT, True, rng)
        row = {"question": question, "answer": answer, "scene": json.dumps(scene)}
        found.append({"id": f"tiny_alignment/{number}"} | row)
    return found
