"""The picture of accuracy against safety: each method by its name, told apart by its kind, light and dark."""

import re

import pytest

from hpa_bench.method import methods
from hpa_bench.report.figures import safety_against_accuracy, save
from hpa_bench.report.kinds import COLOURS, KINDS, MARKERS, kind_of
from tests.support.reports import condition_of
from tests.support.run_folders import write_run

METHODS = sorted(methods.names(), key=lambda name: list(KINDS).index(methods.get(name).kind))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Every method that comes with the package, most of them near no harm done, as in the published results."""
    root = tmp_path_factory.mktemp("crowded")
    runs = [
        write_run(root, name, forget=0.1 + 0.03 * place, unsafe=0.7 if place % 6 == 0 else 0.05 + 0.012 * (place % 7))
        for place, name in enumerate(METHODS)
    ]
    long = {"match": "norm"}
    return condition_of([*runs, write_run(root, "random_columns", config=long, changed=long, forget=0.3, unsafe=0.08)])


def boxes_of(figure):
    """The names of a figure with what each covers, and where its points are, in pixels."""
    figure.draw_without_rendering()
    (axes,) = figure.axes
    points = [
        line.get_xydata()[0] for line in axes.lines if line.get_marker() in MARKERS.values() and len(line.get_xydata())
    ]
    return {text.get_text(): text.get_window_extent() for text in axes.texts}, axes.transData.transform(points)


@pytest.mark.slow
def test_each_method_has_its_name_beside_its_point_and_none_overlap(crowded):
    names, points = boxes_of(safety_against_accuracy(crowded))

    assert set(names) == {group.label for group in crowded.main} and len(points) == len(names) == len(METHODS) + 1
    listed = list(names.values())
    for index, box in enumerate(listed):
        inner = box.padded(-1)
        assert not any(inner.overlaps(other.padded(-1)) for other in listed[index + 1 :])
        assert not any(inner.contains(*point) for point in points)


@pytest.mark.slow
def test_the_picture_of_the_readme_has_kinds_a_front_and_light_intervals(crowded):
    figure = safety_against_accuracy(crowded)

    (axes,), (legend,) = figure.axes, figure.legends
    there = {kind_of(group) for group in crowded.main}
    assert [text.get_text() for text in legend.texts] == [
        *(KINDS[kind] for kind in KINDS if kind in there),
        "Pareto front",
    ]
    for kind in there:
        marks = [line for line in axes.lines if line.get_marker() == MARKERS[kind]]
        assert {line.get_color() for line in marks} == {COLOURS[kind][0]}
    bars = [line for line in axes.lines if line.get_alpha()]
    assert len(bars) == 2 * len(crowded.main) and {line.get_alpha() for line in bars} == {0.28}
    # GitHub shows a README about 830 pixels wide: letters there are at least 11 pixels high.
    assert min(text.get_fontsize() for text in axes.texts) * 830 / (72 * figure.get_figwidth()) >= 11
    assert axes.get_yscale() == "function"


@pytest.mark.slow
def test_the_file_has_dark_colours_and_the_page_has_not(crowded, tmp_path):
    inline = save(safety_against_accuracy(crowded), tmp_path, "against", dark=True)
    svg = (tmp_path / "against.svg").read_text(encoding="utf-8")

    assert "prefers-color-scheme: dark" in svg and "prefers-color-scheme" not in inline
    drawn = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})[;\"]", inline))
    ruled = set(re.findall(r'\[style\*="(?:fill|stroke): (#[0-9a-f]{6})"\]', svg))
    assert drawn <= ruled
    # What has no colour is black: nothing in the figure may rely on that, but glyphs, which take that of their text.
    assert not re.search(r"<g id=\"text_\d+\">\s*(?:<!--.*?-->\s*)?<g transform", inline)
