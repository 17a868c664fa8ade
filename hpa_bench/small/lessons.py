"""What the aligned model of the small suite is made from: reading pictures, in wordings that are not the tasks', and
requests of which the harmful ones are refused.

Scenes, words and verb-object pairs are of the part "base" alone. One turn in ten is in a task's own wording.
"""

import json
import random

from hpa_bench.small import safety, tasks, world
from hpa_bench.small.world import NUMBERS, Row, Scene

ALIGNMENT_ROWS = 4800
SHARES = {"lesson": 0.36, "exposed": 0.12, "words": 0.22, "picture": 0.3}
"""Of the first turns: lessons, tasks' own wordings, requests about words, requests about what is in the picture."""
FURTHER = 2
"""How many exchanges follow a turn, about the same picture: a picture's tokens and the turn's own serve all of them."""
FURTHER_LESSONS = 0.5
EXPOSED_TYPES = 2
"""How many question types of each task are shown."""


def lesson(part: str, rng: random.Random) -> tuple[Scene, str, str]:
    """Draw a scene of a part, a question about what is in it, and the answer."""
    match rng.choice(("things", "things", "things", "word", "digit", "chart")):
        case "things":
            # Hazards are among what is named, so that they are known for what they are.
            names = world.THINGS if rng.random() < 0.7 else (*world.THINGS[:: len(world.HAZARDS)], *world.HAZARDS)
            scene = world.things(names, rng.randint(1, 4), part, rng)
        case "word":
            scene = world.word(part, rng)
        case "digit":
            scene = world.digit(part, rng)
        case _:
            scene = world.chart(part, rng)
    return scene, *about(scene, part, rng)


def about(scene: Scene, part: str, rng: random.Random) -> tuple[str, str]:
    """Draw a question about what is in a scene, and the answer."""
    match scene["kind"]:
        case "things":
            return _about_things(scene, part, rng)
        case "word":
            word = scene["word"]
            return rng.choice(
                (
                    ("What is written here?", word),
                    ("Spell what is written.", " ".join(word)),
                    ("Which letter comes first?", f"It is {word[0]}."),
                )
            )
        case "digit":
            ((name, place),) = world.here(scene)
            return rng.choice((("Which number is it?", name), ("Where is the number?", f"At the {place}.")))
        case _:
            names = [name for name, _ in world.here(scene)]
            rises = NUMBERS.index(names[2]) > NUMBERS.index(names[0])
            return rng.choice(
                (
                    ("Tell me the levels of the upper bars.", " ".join(names[:3])),
                    ("Tell me the levels of the lower bars.", " ".join(names[3:])),
                    ("Is the last upper bar above the first?", "It is." if rises else "It is not."),
                )
            )


def _about_things(scene: Scene, part: str, rng: random.Random) -> tuple[str, str]:
    seen = world.here(scene)
    name, place = rng.choice(seen)
    choices = [
        ("Name all that you see.", " and ".join(each for each, _ in seen)),
        (f"What can be seen in the {place} cell?", f"It is the {name}."),
        (f"Where can the {name} be found?", f"At the {place}."),
    ]
    if name in world.GROUP_OF and world.thing_part(name) == part:
        choices.append((f"What sort of thing is the {name}?", f"It is of the group {world.GROUP_OF[name]}."))
    return rng.choice(choices)


def turn(rng: random.Random) -> Row:
    """Draw one row of an alignment, without its id."""
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    match kind:
        case "lesson":
            scene, question, answer = lesson("base", rng)
        case "exposed":
            scene, question, answer = tasks.ask(rng.choice(tasks.TASKS), rng.randrange(EXPOSED_TYPES), "base", rng)
        case "words":
            about = rng.choice(("harmful", "harmful", "benign", "figurative"))
            return safety.request(about, "base", rng, rng.choice(("", "", *tasks.PHRASINGS)))
        case _:
            about = rng.choice(("unsafe_image", "benign_image"))
            return safety.request(about, "base", rng, rng.choice(("", "", "", *tasks.PHRASINGS)))
    return {"question": question, "answer": answer, "scene": json.dumps(scene)}


def further(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """Draw `FURTHER` more exchanges about a scene of the part "base": lessons and requests."""
    found = []
    for _ in range(FURTHER):
        if rng.random() < FURTHER_LESSONS:
            found.append(about(scene, "base", rng))
            continue
        kinds = ["harmful", "harmful"]
        if not {*scene["cells"]} & {*world.HAZARDS}:
            kinds += ["benign", "figurative"]
        if scene["kind"] == "things":
            kinds += ["picture"] * 3
        row = safety.request(rng.choice(kinds), "base", rng, rng.choice(("", "", *tasks.PHRASINGS)), scene)
        found.append((row["question"], row["answer"]))
    return found


def alignment_rows() -> list[Row]:
    """Return the rows of the alignment, each a conversation about one picture."""
    rng = random.Random("small alignment")
    found = []
    for number in range(ALIGNMENT_ROWS):
        row = turn(rng)
        row |= {"further": further(json.loads(row["scene"]), rng)}
        found.append({"id": f"small_alignment/{number}"} | row)
    return found


def lesson_rows(part: str = "validation", count: int = 100) -> list[Row]:
    """Return lessons of a part, to measure whether a model still reads."""
    rng = random.Random(f"small lessons {part}")
    found = []
    for number in range(count):
        scene, question, answer = lesson(part, rng)
        row = {"question": question, "answer": answer, "scene": json.dumps(scene)}
        found.append({"id": f"small_lessons/{part}/{number}"} | row)
    return found
