"""Names beside points cover neither each other nor a point."""

import numpy as np
from matplotlib.figure import Figure

from hpa_bench.report.labels import Label, place
from hpa_bench.report.labels import drawn as as_drawn


def drawn(points):
    figure = Figure(figsize=(6.75, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*points.T, "o", ms=3.6)
    axes.set(xlim=(-10, 110), ylim=(-10, 110))
    return figure, axes


def test_names_do_not_overlap():
    points = np.random.default_rng(0).random((24, 2)) * 100
    figure, axes = drawn(points)

    place(figure, axes, [Label(f"method_{index}", x, y) for index, (x, y) in enumerate(points)])

    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    pixels = axes.transData.transform(points)
    assert [text.get_text() for text in axes.texts] == [f"method_{index}" for index in range(24)]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert not any(box.contains(*point) for point in pixels)
        assert all(axes.get_window_extent().contains(*corner) for corner in box.corners())


def test_a_crowd_names_all_and_draws_lines_to_those_far_away():
    points = np.full((12, 2), 50.0) + np.arange(12)[:, None] * 0.1
    figure, axes = drawn(points)

    place(figure, axes, [Label(f"method_{index}", x, y) for index, (x, y) in enumerate(points)])

    assert len(axes.texts) == 12 and len(axes.lines) > 4


def test_a_letter_that_the_font_lacks_is_its_number():
    assert as_drawn("seqft \u00e9 \u03b1=1\n$x$") == "seqft \u00e9 \u03b1=1\n$x$"
    assert as_drawn("a\u65b9b\U0001f680") == r"a\u65b9b\U0001f680"
    assert as_drawn("\x1b[2J") == r"\u241b[2J"
