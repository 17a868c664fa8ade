"""A method says its kind, a run keeps it, and a run of before there were kinds has that of its method's source."""

import re
from importlib.resources import files
from typing import get_args

import pytest

from hpa_bench.method import MethodKind, methods
from hpa_bench.report.groups import Group
from hpa_bench.report.kinds import COLOURS, KINDS, MARKERS, kind_of
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import write_run


def kind_of_run(root, method, **manifest):
    return kind_of(Group(method, read_runs([write_run(root, method, manifest=manifest)])))


def test_every_kind_that_a_method_may_say_has_words():
    assert set(KINDS) == set(get_args(MethodKind))


def test_the_source_of_a_method_says_its_kind():
    said = {name: methods.written(name, "kind") for name in methods.names()}

    assert said == {name: methods.get(name).kind for name in said}
    assert set(said.values()) | {"other"} == set(KINDS)


@pytest.mark.parametrize(
    ("method", "manifest", "kind"),
    [
        ("half_of_it", {"method_kind": "weights"}, "weights"),
        ("hpa", {"method_kind": "loss"}, "loss"),
        ("hpa", {}, "columns"),
        ("half_of_it", {}, "other"),
        ("half_of_it", {"method_kind": "of a later version"}, "other"),
    ],
)
def test_a_run_has_the_kind_that_it_says_or_else_that_of_its_method(method, manifest, kind, tmp_path):
    assert kind_of_run(tmp_path, method, **manifest) == kind


def test_the_page_and_the_figures_have_the_same_colours():
    style = (files("hpa_bench.report.page") / "report.css").read_text(encoding="utf-8")
    light, dark = style.split("prefers-color-scheme: dark", 1)

    for kind, (on_white, on_black) in COLOURS.items():
        for text, colour in ((light, on_white), (dark, on_black)):
            (found,) = re.findall(rf"--k-{kind}: (#\w+)", text)
            assert found.lower() in (colour, f"#{colour[1]}{colour[3]}{colour[5]}"), kind
    assert len(set(MARKERS.values())) == len(KINDS) == len(MARKERS)
