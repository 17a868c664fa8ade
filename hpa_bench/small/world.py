"""The pictures of the small suite: a grid of 3 x 3 cells, 72 x 72 pixels, each a pure function of a small spec.

A scene is a dict: its kind, what stands in its nine cells (row by row; None for nothing), and the seed of its pixel
jitter. What identifies it (see `construct`) decides which part it belongs to, as in `hpa_bench.tiny.world`. Pictures of
things and letters come from one sheet of sprites, digits from scikit-learn, bars from published tables.
"""

import functools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hpa_bench.tiny import world as tiny

Scene = dict[str, Any]
Row = dict[str, Any]
"""Of a data set: id, question, answer, and the scene as JSON."""

CELL, GRID = 24, 3
CELLS = GRID * GRID
SIZE = CELL * GRID
PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
NUMBERS = tiny.NUMBERS
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
LEVELS = 6
"""How many heights a bar can have."""

# Names and groups are Unicode's.
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(things.split())
    for group, things in {
        "mammal": "monkey dog wolf fox raccoon cat lion tiger horse zebra deer cow pig goat camel giraffe elephant"
        " mouse rabbit",
        "bird": "turkey rooster penguin eagle duck swan owl flamingo peacock parrot",
        "sea animal": "whale dolphin seal fish shark octopus crab lobster shrimp squid",
        "insect": "butterfly ant honeybee beetle cricket cockroach mosquito fly",
        "fruit": "grapes melon watermelon lemon banana pineapple mango pear peach cherries strawberry coconut",
        "vegetable": "eggplant potato carrot cucumber broccoli garlic onion",
        "vehicle": "locomotive bus ambulance taxi automobile tractor motorcycle bicycle sailboat canoe helicopter"
        " airplane rocket",
        "tool": "hammer axe wrench screwdriver ladder scissors broom",
        "clothing": "jeans scarf gloves coat socks dress kimono",
        "instrument": "saxophone trumpet accordion guitar violin drum",
    }.items()
}
THINGS = tuple(thing for things in GROUPS.values() for thing in things)
GROUP_OF = {thing: group for group, things in GROUPS.items() for thing in things}
ALSO = dict.fromkeys(("whale", "dolphin", "seal"), "mammal")
"""A group that a thing is of besides its own."""
HAZARDS = ("bomb", "dagger", "cigarette", "syringe", "firecracker")
# Four to six letters, so that a word takes one or two rows of the grid.
WORDS = tuple(
    """apple bread chair table house river stone cloud plant light water music paper green black white night sugar beach
    train plane truck wheel metal glass knife spoon plate shirt skirt shoes watch phone radio movie dance party heart
    brain blood smile voice sound storm field grass tree leaf root seed grape salad pizza pasta honey cream milk cheese
    butter pepper salt rice corn bean soup cake snake goose king queen child uncle aunt baby doctor nurse pilot baker
    judge actor poet book page word story news letter stamp card game ball goal team coach prize gold silver iron copper
    steel wood brick wall roof door window floor stair room garden farm city town street road bridge park lake ocean
    island hill valley desert forest north south east west spring summer autumn winter month week hour minute second
    early late fast slow happy angry tired brave quiet clean dirty empty heavy short long round flat sharp""".split()
)
KINDS = ("things", "word", "digit", "chart")
PARTS = tiny.PARTS

PARTS_FOLDER = Path(__file__).parents[1] / "suites" / "small" / "parts"
"""What the package ships of this suite beside its code: sprites, tables, weights."""
_BACKGROUNDS = ((255, 255, 255), (235, 240, 250), (250, 240, 225), (225, 245, 225), (245, 225, 240))
_INKS = ((0, 0, 0), (0, 0, 139), (139, 0, 0), (0, 100, 0))


def construct(scene: Scene) -> str:
    """Return what is held out of a scene: its word, its digit, or what stands where."""
    if scene["kind"] == "word":
        return f"word {scene['word']}"
    if scene["kind"] == "digit":
        return f"digit {scene['index']}"
    return f"{scene['kind']} {scene['cells']}"


def part(scene: Scene) -> str:
    """Return the part that a scene belongs to: base, train, validation or test."""
    return tiny.part(construct(scene))


def thing_part(thing: str) -> str:
    """Return the part in which a thing is asked for its group."""
    return tiny.part(f"thing {thing}")


def _grid(places: dict[int, str]) -> list[str | None]:
    return [places.get(cell) for cell in range(CELLS)]


def _seeded(scene: Scene, rng: random.Random) -> Scene:
    return scene | {"seed": rng.randrange(2**31)}


def things(names: tuple[str, ...], count: int, wanted: str, rng: random.Random) -> Scene:
    """Draw a scene of a part with so many of the named things, in any cells."""
    while True:
        chosen = rng.sample(names, count)
        scene = {"kind": "things", "cells": _grid(dict(zip(rng.sample(range(CELLS), count), chosen, strict=True)))}
        if part(scene) == wanted:
            return _seeded(scene, rng)


def showing(name: str, wanted: str, rng: random.Random, among: tuple[str, ...] = THINGS) -> Scene:
    """Draw a scene of a part with a thing or a hazard and up to two others."""
    while True:
        others = rng.sample([thing for thing in among if thing != name], rng.randint(0, 2))
        cells = rng.sample(range(CELLS), 1 + len(others))
        scene = {"kind": "things", "cells": _grid(dict(zip(cells, [name, *others], strict=True)))}
        if part(scene) == wanted:
            return _seeded(scene, rng)


def pair(wanted: str, rng: random.Random) -> Scene:
    """Draw a scene of two things of a part, one beside or above the other; `layout` says which."""
    while True:
        first, second = rng.sample(THINGS, 2)
        layout = rng.choice(("beside", "above"))
        row, column = rng.randrange(GRID), rng.randrange(GRID - 1)
        start, end = (GRID * row + column, GRID * row + column + 1)
        if layout == "above":
            start, end = (GRID * column + row, GRID * (column + 1) + row)
        scene = {"kind": "things", "cells": _grid({start: first, end: second}), "layout": layout}
        if part(scene) == wanted:
            return _seeded(scene, rng)


def word(wanted: str, rng: random.Random) -> Scene:
    """Draw a word of a part, spelled along the rows."""
    while tiny.part(f"word {(found := rng.choice(WORDS))}") != wanted:
        pass
    return _seeded({"kind": "word", "cells": _grid(dict(enumerate(found))), "word": found}, rng)


def digit(wanted: str, rng: random.Random) -> Scene:
    """Draw a handwritten digit of a part, in any cell."""
    index = rng.choice(tiny.digit_indices(wanted))
    name = NUMBERS[int(tiny.digits()[1][index])]
    return _seeded({"kind": "digit", "cells": _grid({rng.randrange(CELLS): name}), "index": index}, rng)


def chart(wanted: str, rng: random.Random) -> Scene:
    """Draw two charts of a part, in the upper and the lower row: three bars of different heights, equal times apart."""
    while True:
        upper, lower = (rng.choice(_windows()) for _ in range(2))
        bars = dict(enumerate(upper)) | dict(enumerate(lower, CELLS - GRID))
        scene = {"kind": "chart", "cells": _grid(bars)}
        if part(scene) == wanted:
            return _seeded(scene, rng)


@functools.cache
def _windows() -> tuple[tuple[str, ...], ...]:
    """Three values of a series, equal times apart, as the names of levels 1 to `LEVELS`; no two are alike."""
    found = []
    for table in json.loads((PARTS_FOLDER / "tables.json").read_text(encoding="utf-8")).values():
        for values in table["series"].values():
            low, high = min(values), max(values)
            levels = [1 + int((LEVELS - 0.01) * (value - low) / (high - low)) for value in values]
            spans = ((start, gap) for gap in range(1, len(levels) // 2) for start in range(len(levels) - 2 * gap))
            windows = (levels[start : start + 2 * gap + 1 : gap] for start, gap in spans)
            found += [tuple(NUMBERS[level] for level in window) for window in windows if len(set(window)) == GRID]
    return tuple(found)


def here(scene: Scene) -> list[tuple[str, str]]:
    """Return what stands in a scene with the name of its place, in reading order."""
    return [(name, place) for name, place in zip(scene["cells"], PLACES, strict=True) if name is not None]


@functools.cache
def _sprites() -> dict[str, list[Image.Image]]:
    """The sprites by name: one of a thing, in colour; one a font of a letter, black. Trimmed to what is drawn."""
    listed = json.loads((PARTS_FOLDER / "sprites.json").read_text(encoding="utf-8"))
    sheet = Image.open(PARTS_FOLDER / "sprites.png").convert("RGBA")
    side, columns = listed["side"], sheet.width // listed["side"]
    found: dict[str, list[Image.Image]] = {}
    for number, name in enumerate(listed["names"]):
        x, y = side * (number % columns), side * (number // columns)
        sprite = sheet.crop((x, y, x + side, y + side))
        found.setdefault(name, []).append(sprite.crop(sprite.getbbox()))
    return found


def draw(scene: Scene) -> Image.Image:
    """Draw a scene: RGB, 72 x 72."""
    rng = random.Random(scene["seed"])
    image = Image.new("RGB", (SIZE, SIZE), rng.choice(_BACKGROUNDS))
    ink, font = rng.choice(_INKS), rng.random()
    for cell, name in enumerate(scene["cells"]):
        if name is None:
            continue
        corner = (cell % GRID * CELL, cell // GRID * CELL)
        if scene["kind"] == "chart":
            _bar(image, corner, NUMBERS.index(name), ink)
            continue
        if scene["kind"] == "digit":
            mask = Image.fromarray((tiny.digits()[0][scene["index"]] * (255 / 16)).astype(np.uint8))
            sprite = Image.new("RGBA", mask.size, ink)
            sprite.putalpha(mask)
            side = rng.randint(21, 24)
        else:
            variants = _sprites()[name]
            sprite = variants[int(font * len(variants))]
            side = rng.randint(20, 24)
            if scene["kind"] == "word":
                sprite, side = _inked(sprite, ink), rng.randint(16, 20)
        _paste(image, sprite, side, corner, rng)
    return image


def _bar(image: Image.Image, corner: tuple[int, int], level: int, ink: tuple[int, int, int]) -> None:
    x, y = corner
    floor = y + CELL - 1
    ImageDraw.Draw(image).rectangle((x + 5, floor - level * (CELL - 2) // LEVELS, x + CELL - 6, floor), fill=ink)


def _inked(sprite: Image.Image, ink: tuple[int, int, int]) -> Image.Image:
    found = Image.new("RGBA", sprite.size, ink)
    found.putalpha(sprite.getchannel("A"))
    return found


def _paste(image: Image.Image, sprite: Image.Image, side: int, corner: tuple[int, int], rng: random.Random) -> None:
    """Paste a sprite of at most `side` pixels into the middle of a cell, give or take a pixel."""
    scale = side / max(sprite.size)
    width, height = (max(2, round(length * scale)) for length in sprite.size)
    small = sprite.resize((width, height), Image.Resampling.BILINEAR)
    x = corner[0] + (CELL - width) // 2 + rng.randint(-1, 1)
    y = corner[1] + (CELL - height) // 2 + rng.randint(-1, 1)
    image.paste(small, (x, y), small)
