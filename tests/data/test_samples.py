"""Samples: their exchanges, and the hash that tells two sets apart."""

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from hpa_bench.data.images import content_fields
from hpa_bench.data.samples import Sample, content_hash


def sample(name: str = "a", prompt: str = "p", target: str = "t", **values: Any) -> Sample:
    return Sample(name, "task", prompt, target, **{"images": (), **values})


def image(colour: str, size: tuple[int, int] = (2, 3), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def test_exchanges_begin_with_prompt_and_target() -> None:
    further = [("and this ?", "a dog"), ("sure ?", "yes")]

    assert sample(prompt="what ?", target="a cat").exchanges == [("what ?", "a cat")]
    assert sample(prompt="what ?", target="a cat", further=further).exchanges == [("what ?", "a cat"), *further]


def test_equal_samples_have_equal_hashes() -> None:
    def make() -> list[Sample]:
        return [sample(images=[image("red")]), sample("b", further=[("q", "r")])]

    assert content_hash(make()) == content_hash(iter(make()))
    assert len(content_hash([])) == 64


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([sample("ab", "c")], [sample("a", "bc")]),
        ([sample("a", "bc", "d")], [sample("a", "b", "cd")]),
        ([sample("a", "", "b")], [sample("a", "b", "")]),
        ([sample(further=[("ab", "c")])], [sample(further=[("a", "bc")])]),
        ([sample(further=[("q", "r"), ("s", "t")])], [sample(further=[("s", "t"), ("q", "r")])]),
        ([sample("a"), sample("b")], [sample("b"), sample("a")]),
        ([sample("a", "p", "t"), sample("b")], [sample("a", "p", "t", further=[("b", "p")], images=())]),
        ([sample()], []),
        ([sample(target="é")], [sample(target="e\u0301")]),
    ],
)
def test_no_field_is_read_as_another(one: list[Sample], other: list[Sample]) -> None:
    assert content_hash(one) != content_hash(other)


@pytest.mark.parametrize(
    "images",
    [[], [image("blue")], [image("red", (3, 2))], [image("red", mode="RGBA")], [image("red"), image("red")]],
)
def test_every_part_of_an_image_counts(images: list[Image.Image]) -> None:
    red = sample(images=[image("red")])

    assert content_hash([replace(red, images=images)]) != content_hash([red])


def test_the_task_and_what_reports_are_told_do_not_count() -> None:
    told = replace(sample(), task="other", about={"category": "fraud"})

    assert content_hash([told]) == content_hash([sample()])


def test_what_a_row_is_graded_by_counts_where_it_has_some() -> None:
    graded = [sample(graded_by=text) for text in ("", '{"answers": ["a"]}', '{"answers": ["b"]}')]

    assert len({content_hash([each]) for each in graded}) == 3
    assert content_hash([graded[1], graded[0]]) != content_hash([graded[0], graded[1]])
    # As published manifests have it.
    assert content_hash(graded[:1]) == "b41bf67309c7bec1b73560de2a36c35dbd2a8fddfbd44e05e461a38bd4667f19"


def test_a_further_exchange_is_no_image() -> None:
    image = Image.new("L", (1, 2), 65)
    one = Sample("a", "t", "<image> q", "r", [image])
    other = Sample("a", "t", "<image> q", "r", [], further=[("L (1, 2)", "AA")])

    assert [*content_fields([image])] == [b"L (1, 2)", b"AA"], "the same bytes"
    assert content_hash([one]) != content_hash([other])
