import json
import random

import numpy as np
import pytest

from hpa_bench.tiny import world


@pytest.mark.parametrize("kind", world.KINDS)
def test_drawing_is_a_function_of_the_spec(kind):
    scene = world.sample(kind, "test", random.Random(1))

    first, again = world.draw(scene), world.draw(json.loads(json.dumps(scene)))

    assert first.size == (world.SIZE, world.SIZE) and first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != world.draw(scene | {"seed": scene["seed"] + 1}).tobytes()


@pytest.mark.parametrize("kind", world.KINDS)
def test_samples_belong_to_their_part(kind):
    rng = random.Random(2)

    for part in world.PARTS:
        scene = world.sample(kind, part, rng)
        identity = f"digit {scene['index']}" if kind == "digit" else world.construct(scene)
        assert world.part(identity) == part


def test_parts_have_their_shares():
    names = [world.part(str(number)) for number in range(20000)]

    for name, percent in world.PARTS.items():
        assert names.count(name) / 200 == pytest.approx(percent, abs=1.5)


def test_labels_that_follow_from_others():
    road = {
        "kind": "road",
        "light": "green",
        "cars": "two",
        "walker": "nowhere",
        "time": "day",
        "weather": "dry",
        "seed": 0,
    }
    chart = {"kind": "chart", "red": "two", "green": "five", "blue": "one", "yellow": "three", "seed": 0}

    assert world.labels(road)["go"] == "yes"
    assert world.labels(road | {"walker": "left"})["go"] == "no"
    assert {"highest": "green", "lowest": "blue", "trend": "up"}.items() <= world.labels(chart).items()


@pytest.mark.slow
def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    images, classes = world.digits()

    expected = datasets.load_digits()
    assert np.array_equal(images, expected.images) and np.array_equal(classes, expected.target)
