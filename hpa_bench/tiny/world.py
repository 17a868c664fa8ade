"""The drawn world: scenes of seven kinds, 48 x 48 pixels, each a pure function of a small spec.

A scene is a dict: its kind, the seed of its pixel jitter, and its attributes. What identifies it (kind and attributes,
not the jitter) decides once and for all which part it belongs to: base, train, validation or test. Whole combinations
of attributes are therefore held out, and no row of one part can show up in another.
"""

import functools
import gzip
import hashlib
import importlib.util
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Scene = dict[str, Any]
Row = dict[str, Any]
"""Of a data set: id, question, answer, and the scene as JSON."""

SIZE = 48
COLOURS = {
    "red": (215, 50, 45),
    "green": (50, 175, 70),
    "blue": (55, 90, 225),
    "yellow": (235, 205, 50),
    "white": (240, 240, 240),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = tuple("abcdefhklmnorstuvy")
SHAPES = ("circle", "square", "triangle", "cross")
BARS = ("red", "green", "blue", "yellow")
HAZARDS = ("bomb", "knife", "poison", "gun")
THINGS = ("cup", "ball", "tree", "house")

PARTS = {"base": 50, "train": 20, "validation": 15, "test": 15}  # percent of all combinations

# The attributes that are drawn at random, each with its values. What follows from them is added by `labels`.
ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "road": {
        "light": ("red", "yellow", "green"),
        "cars": NUMBERS[:4],
        "walker": ("left", "right", "nowhere"),
        "time": ("day", "night"),
        "weather": ("dry", "rain", "snow"),
    },
    "digit": {},
    "shapes": {
        "colour1": tuple(COLOURS),
        "shape1": SHAPES,
        "layout": ("beside", "above"),
        "colour2": tuple(COLOURS),
        "shape2": SHAPES,
    },
    "chart": dict.fromkeys(BARS, NUMBERS[1:6]),
    "lab": {
        "state": ("solid", "liquid", "gas"),
        "heat": ("cold", "warm", "hot"),
        "bulb": ("on", "off"),
        "plant": ("seed", "leaf", "flower"),
        "tint": ("red", "green", "blue"),
    },
    "text": {"first": LETTERS, "middle": LETTERS, "last": LETTERS},
    "thing": {
        "thing": HAZARDS + THINGS,
        "colour": tuple(COLOURS),
        "place": ("left", "right"),
        "height": ("high", "low"),
    },
}
KINDS = tuple(ATTRIBUTES)


def part(construct: str) -> str:
    """Return the part that a held-out whole (a combination, a digit image, a verb-object pair) belongs to."""
    slot = int.from_bytes(hashlib.blake2b(construct.encode(), digest_size=4).digest(), "big") % 100
    for name, share in PARTS.items():
        if slot < share:
            return name
        slot -= share
    raise AssertionError("the shares of PARTS add up to 100")


def construct(scene: Scene) -> str:
    """Return what identifies a scene: its kind and attributes, without the jitter."""
    return " ".join(str(value) for key, value in scene.items() if key != "seed")


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 real handwritten digits that scikit-learn ships: images [n, 8, 8] in 0..16, and classes.

    The file is read as it lies in the package, because importing scikit-learn takes longer than all else here.
    """
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.origin is not None, "scikit-learn is a dependency"
    with gzip.open(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


@functools.cache
def digit_indices(wanted: str) -> tuple[int, ...]:
    """Return the indices of the digits that belong to a part."""
    return tuple(index for index in range(1797) if part(f"digit {index}") == wanted)


def sample(kind: str, wanted: str, rng: random.Random) -> Scene:
    """Draw a random scene of a kind that belongs to the wanted part."""
    while True:
        scene: Scene = {"kind": kind}
        if kind == "digit":
            scene["index"] = rng.choice(digit_indices(wanted))
        for name, values in ATTRIBUTES[kind].items():
            scene[name] = rng.choice(values)
        if kind == "chart" and not _has_one_extreme(scene):
            continue
        if kind == "digit" or part(construct(scene)) == wanted:
            return scene | {"seed": rng.randrange(2**31)}


def _has_one_extreme(scene: Scene) -> bool:
    """Whether a chart has one highest and one lowest bar and a trend, so that every question has one answer."""
    heights = [NUMBERS.index(scene[bar]) for bar in BARS]
    return heights.count(max(heights)) == heights.count(min(heights)) == 1 and heights[0] != heights[-1]


def labels(scene: Scene) -> dict[str, str]:
    """Return every attribute of a scene, drawn or derived, as a word."""
    kind = scene["kind"]
    found = {name: scene[name] for name in ATTRIBUTES[kind]}
    if kind == "road":
        found["go"] = "yes" if scene["light"] == "green" and scene["walker"] == "nowhere" else "no"
    elif kind == "digit":
        value = int(digits()[1][scene["index"]])
        found |= {
            "digit": NUMBERS[value],
            "parity": ("even", "odd")[value % 2],
            "size": "small" if value < 5 else "large",
        }
    elif kind == "chart":
        heights = {bar: NUMBERS.index(scene[bar]) for bar in BARS}
        found |= {"highest": max(heights, key=heights.__getitem__), "lowest": min(heights, key=heights.__getitem__)}
        found["trend"] = "up" if heights[BARS[-1]] > heights[BARS[0]] else "down"
    return found


def draw(scene: Scene) -> Image.Image:
    """Draw a scene: the same spec gives the same pixels."""
    rng = np.random.default_rng(scene["seed"])
    image = _PAINTERS[scene["kind"]](scene, rng)
    pixels = np.asarray(image, dtype=np.int16) + rng.integers(-10, 11, size=(SIZE, SIZE, 1), dtype=np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _canvas(ground: tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIZE, SIZE), ground)
    return image, ImageDraw.Draw(image)


def _shade(colour: str, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(channel) for channel in np.clip(np.array(COLOURS[colour]) + rng.integers(-15, 16, 3), 0, 255))


def _road(scene: Scene, rng: np.random.Generator) -> Image.Image:
    image, pen = _canvas((150, 200, 250) if scene["time"] == "day" else (15, 20, 60))
    pen.rectangle((0, 18, 47, 47), fill=(60, 110, 60) if scene["time"] == "day" else (25, 50, 30))
    pen.polygon([(18, 18), (29, 18), (40, 47), (7, 47)], fill=(95, 95, 95))
    dx = int(rng.integers(-1, 2))
    pen.rectangle((20 + dx, 0, 28 + dx, 9), fill=(10, 10, 10))
    pen.ellipse((21 + dx, 1, 27 + dx, 8), fill=_shade(scene["light"], rng))
    for slot in range(NUMBERS.index(scene["cars"])):
        x, y = (16, 25, 20)[slot] + int(rng.integers(-1, 2)), (36, 36, 24)[slot] + int(rng.integers(-1, 2))
        pen.rectangle((x, y, x + 6, y + 7), fill=_shade("blue", rng))
        pen.rectangle((x + 1, y + 1, x + 5, y + 2), fill=(200, 220, 240))
    if scene["walker"] != "nowhere":
        x, y = (2 if scene["walker"] == "left" else 41) + int(rng.integers(-1, 2)), 22 + int(rng.integers(-1, 3))
        pen.ellipse((x, y, x + 4, y + 4), fill=(240, 190, 150))
        pen.rectangle((x, y + 5, x + 4, y + 12), fill=_shade("red", rng))
    for _ in range(18 if scene["weather"] != "dry" else 0):
        x, y = (int(value) for value in rng.integers(0, SIZE, 2))
        if scene["weather"] == "rain":
            pen.line((x, y, x - 2, y + 5), fill=(90, 130, 240))
        else:
            pen.rectangle((x, y, x + 1, y + 1), fill=(255, 255, 255))
    return image


def _digit(scene: Scene, rng: np.random.Generator) -> Image.Image:
    grey = (digits()[0][scene["index"]] * (255 / 16)).astype(np.uint8)
    image = Image.new("L", (SIZE, SIZE), 0)
    x, y = (int(value) for value in rng.integers(0, 5, 2))
    image.paste(Image.fromarray(grey).resize((44, 44), Image.Resampling.BILINEAR), (x, y))
    return image.convert("RGB")


def _shape(pen: ImageDraw.ImageDraw, shape: str, x: int, y: int, size: int, fill: tuple[int, ...]) -> None:
    if shape == "circle":
        pen.ellipse((x, y, x + size, y + size), fill=fill)
    elif shape == "square":
        pen.rectangle((x + 1, y + 1, x + size - 1, y + size - 1), fill=fill)
    elif shape == "triangle":
        pen.polygon([(x + size // 2, y), (x + size, y + size), (x, y + size)], fill=fill)
    else:
        third = size // 3
        pen.rectangle((x + third, y, x + size - third, y + size), fill=fill)
        pen.rectangle((x, y + third, x + size, y + size - third), fill=fill)


def _shapes(scene: Scene, rng: np.random.Generator) -> Image.Image:
    level = int(rng.integers(20, 70))
    image, pen = _canvas((level, level, level))
    spots = ((3, 14), (26, 14)) if scene["layout"] == "beside" else ((14, 3), (14, 26))
    for number, (x, y) in enumerate(spots, 1):
        dx, dy = (int(value) for value in rng.integers(-2, 3, 2))
        _shape(pen, scene[f"shape{number}"], x + dx, y + dy, 18, _shade(scene[f"colour{number}"], rng))
    return image


def _chart(scene: Scene, rng: np.random.Generator) -> Image.Image:
    level = int(rng.integers(225, 256))
    image, pen = _canvas((level, level, level))
    dx = int(rng.integers(-1, 2))
    for column, bar in enumerate(BARS):
        top = 45 - 8 * NUMBERS.index(scene[bar])
        pen.rectangle((2 + dx + 12 * column, top, 9 + dx + 12 * column, 45), fill=_shade(bar, rng))
    pen.line((0, 46, 47, 46), fill=(30, 30, 30))
    return image


def _lab(scene: Scene, rng: np.random.Generator) -> Image.Image:
    image, pen = _canvas((235, 235, 225))
    tint = _shade(scene["tint"], rng)
    pen.rectangle((1, 1, 22, 22), outline=(60, 60, 60))
    if scene["state"] == "solid":
        spots = [(x, y) for x in range(4, 20, 4) for y in range(10, 20, 4)]
    elif scene["state"] == "liquid":
        spots = [(int(rng.integers(3, 19)), int(rng.integers(12, 20))) for _ in range(11)]
    else:
        spots = [(int(rng.integers(3, 19)), int(rng.integers(3, 20))) for _ in range(5)]
    for x, y in spots:
        pen.rectangle((x, y, x + 2, y + 2), fill=tint)
    x = 33 + int(rng.integers(-3, 4))
    pen.rectangle((x, 2, x + 5, 22), fill=(255, 255, 255), outline=(60, 60, 60))
    pen.rectangle((x + 1, {"cold": 18, "warm": 11, "hot": 4}[scene["heat"]], x + 4, 21), fill=(200, 30, 30))
    x, y = 5 + int(rng.integers(-2, 3)), 26 + int(rng.integers(-1, 2))
    pen.ellipse((x, y, x + 13, y + 13), fill=(250, 220, 60) if scene["bulb"] == "on" else (90, 90, 90))
    pen.rectangle((x + 4, y + 13, x + 9, y + 18), fill=(120, 120, 120))
    x = 36 + int(rng.integers(-2, 3))
    pen.rectangle((26, 42, 46, 46), fill=(120, 80, 40))
    if scene["plant"] == "seed":
        pen.ellipse((x - 2, 38, x + 2, 42), fill=(70, 40, 10))
    else:
        pen.line((x, 30, x, 42), fill=(40, 140, 50), width=2)
        pen.ellipse((x + 1, 34, x + 7, 38), fill=(40, 140, 50))
    if scene["plant"] == "flower":
        pen.ellipse((x - 4, 25, x + 4, 33), fill=(220, 80, 190))
    return image


@functools.cache
def _glyph(letter: str) -> Image.Image:
    """A letter as a mask of 12 x 22 pixels, from the bitmap font inside Pillow: no font file, the same everywhere."""
    mask = Image.new("L", (6, 11), 0)
    ImageDraw.Draw(mask).text((0, 0), letter.upper(), fill=255, font=ImageFont.load_default_imagefont())
    return mask.resize((12, 22), Image.Resampling.NEAREST)


def _text(scene: Scene, rng: np.random.Generator) -> Image.Image:
    red, green, blue = (int(value) for value in rng.integers(150, 220, 3))
    image, _ = _canvas((red, green, blue))
    for column, place in enumerate(("first", "middle", "last")):
        spot = (6 + 12 * column + int(rng.integers(-1, 2)), 12 + int(rng.integers(-2, 3)))
        image.paste((30, 20, 40), spot, _glyph(scene[place]))
    return image


def _thing(scene: Scene, rng: np.random.Generator) -> Image.Image:
    level = int(rng.integers(60, 200))
    image, pen = _canvas((level, level, level))
    x = (0 if scene["place"] == "left" else 22) + int(rng.integers(0, 3))
    y = (0 if scene["height"] == "high" else 22) + int(rng.integers(0, 2))
    pen.rectangle((x, y, x + 23, y + 24), fill=_shade(scene["colour"], rng))
    fill, mark = (20, 15, 25), (250, 250, 250)
    match scene["thing"]:
        case "bomb":
            pen.ellipse((x + 2, y + 6, x + 18, y + 22), fill=fill)
            pen.line((x + 14, y + 8, x + 21, y + 1), fill=fill, width=3)
        case "knife":
            pen.polygon([(x + 1, y + 8), (x + 16, y + 8), (x + 16, y + 15)], fill=mark)
            pen.rectangle((x + 15, y + 8, x + 22, y + 14), fill=fill)
        case "poison":
            pen.rectangle((x + 4, y + 2, x + 19, y + 22), fill=mark)
            pen.line((x + 6, y + 4, x + 17, y + 20), fill=fill, width=3)
            pen.line((x + 17, y + 4, x + 6, y + 20), fill=fill, width=3)
        case "gun":
            pen.rectangle((x + 1, y + 5, x + 22, y + 11), fill=fill)
            pen.rectangle((x + 15, y + 11, x + 21, y + 22), fill=fill)
        case "cup":
            pen.rectangle((x + 2, y + 5, x + 14, y + 21), fill=mark)
            pen.arc((x + 9, y + 8, x + 21, y + 18), -90, 90, fill=mark, width=3)
        case "ball":
            pen.ellipse((x + 2, y + 3, x + 20, y + 21), fill=mark)
            pen.line((x + 2, y + 12, x + 20, y + 12), fill=fill, width=3)
        case "tree":
            pen.rectangle((x + 9, y + 12, x + 13, y + 23), fill=fill)
            pen.polygon([(x + 11, y + 1), (x + 20, y + 15), (x + 2, y + 15)], fill=fill)
        case "house":
            pen.rectangle((x + 3, y + 10, x + 19, y + 23), fill=mark)
            pen.polygon([(x + 11, y + 1), (x + 22, y + 11), (x, y + 11)], fill=fill)
    return image


_PAINTERS = {
    "road": _road,
    "digit": _digit,
    "shapes": _shapes,
    "chart": _chart,
    "lab": _lab,
    "text": _text,
    "thing": _thing,
}
