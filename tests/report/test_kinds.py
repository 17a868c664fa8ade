"""Every method that comes with the package has a kind, and what comes from elsewhere is one of the others."""

import re
from importlib.metadata import entry_points
from importlib.resources import files

from hpa_bench.report.kinds import COLOURS, KINDS, MARKERS, kind_of


def test_every_method_of_the_package_has_a_kind():
    names = {point.name for point in entry_points(group="hpa_bench.methods") if point.value.startswith("hpa_bench.")}

    assert {name for name in names if kind_of(name) == "other"} == set()
    assert {kind_of(name) for name in names} | {"other"} == set(KINDS)


def test_a_method_from_elsewhere_is_one_of_the_others():
    assert kind_of("half_of_it") == "other"


def test_the_page_and_the_figures_have_the_same_colours():
    style = (files("hpa_bench.report.page") / "report.css").read_text(encoding="utf-8")
    light, dark = style.split("prefers-color-scheme: dark", 1)

    for kind, (on_white, on_black) in COLOURS.items():
        for text, colour in ((light, on_white), (dark, on_black)):
            (found,) = re.findall(rf"--k-{kind}: (#\w+)", text)
            assert found.lower() in (colour, f"#{colour[1]}{colour[3]}{colour[5]}"), kind
    assert len(set(MARKERS.values())) == len(KINDS) == len(MARKERS)
