import json
import random

import numpy as np
import pytest

from hpa_bench.small import world

DRAWN = {
    "things": lambda part, rng: world.things(world.THINGS, 3, part, rng),
    "pair": world.pair,
    "showing": lambda part, rng: world.showing("bomb", part, rng),
    "word": world.word,
    "digit": world.digit,
    "chart": world.chart,
}


@pytest.mark.parametrize("kind", DRAWN)
def test_drawing_is_a_function_of_the_spec(kind: str) -> None:
    scene = DRAWN[kind]("test", random.Random(1))

    first, again = world.draw(scene), world.draw(json.loads(json.dumps(scene)))

    assert first.size == (world.SIZE, world.SIZE) and first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != world.draw(scene | {"seed": scene["seed"] + 1}).tobytes()


@pytest.mark.parametrize("kind", DRAWN)
def test_scenes_belong_to_the_part_that_was_asked_for(kind: str) -> None:
    rng = random.Random(2)

    assert all(world.part(DRAWN[kind](part, rng)) == part for part in world.PARTS)


@pytest.mark.parametrize("kind", DRAWN)
def test_what_stands_in_a_cell_is_drawn_there_and_nowhere_else(kind: str) -> None:
    scene = DRAWN[kind]("test", random.Random(3))
    array = np.asarray(world.draw(scene))

    for cell, name in enumerate(scene["cells"]):
        y, x = (world.CELL * index for index in divmod(cell, world.GRID))
        # A neighbour may lean over by a pixel.
        inside = array[y + 2 : y + world.CELL - 2, x + 2 : x + world.CELL - 2].reshape(-1, 3)
        assert (len(np.unique(inside, axis=0)) > 1) == (name is not None), (cell, name)


def test_every_name_has_its_sprite_and_letters_have_several() -> None:
    sprites = world._sprites()

    assert {len(sprites[name]) for name in (*world.THINGS, *world.HAZARDS)} == {1}
    assert {len(sprites[letter]) for letter in world.LETTERS} == {8}
    assert len(sprites) == len(world.THINGS) + len(world.HAZARDS) + len(world.LETTERS)


def test_words_fit_and_are_none_twice() -> None:
    assert len(set(world.WORDS)) == len(world.WORDS) > 150
    assert {len(word) for word in world.WORDS} == {4, 5, 6}


def test_bars_are_of_different_heights() -> None:
    windows = world._windows()

    assert len(windows) > 1000 and all(len(set(window)) == world.GRID for window in windows)
    assert {name for window in windows for name in window} == set(world.NUMBERS[1 : world.LEVELS + 1])
