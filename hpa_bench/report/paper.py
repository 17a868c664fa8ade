"""What a paper takes: figures at the width of one and of two columns, as PDF and SVG, and tables in LaTeX.

Widths and sizes of letters are those of common two-column templates (3.25 and 6.75 inches; 7 and 8 points), so that
figures stand in a paper without being scaled. Whatever differs in colour differs in marker and dashes as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpa_bench.machine.disk import GIVE_AGAIN, refusals_told
from hpa_bench.metrics import METRICS
from hpa_bench.names import short_names
from hpa_bench.report import latex, tables
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import Group
from hpa_bench.report.labels import FONT, drawn, lay_out
from hpa_bench.report.ranking import shown_groups
from hpa_bench.report.scatter import draw_plane
from hpa_bench.results.measures import Cell, Series
from hpa_bench.results.runs import Run

COLUMN, TEXT = 3.25, 6.75
"""Inches: one column, and both with the gap between them."""
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": 7,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "pdf.fonttype": 42,  # TrueType, embedded; journals refuse Type 3.
    "svg.fonttype": "path",
    "svg.hashsalt": "hpa-bench",
    "text.parse_math": False,  # Dollars in a setting are dollars.
}
# Okabe and Ito's palette, ordered so that neighbours differ in lightness, and with it in grey.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#009E73", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Any = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 2)))


class Drawing(NamedTuple):
    """A figure for a paper: how it is drawn at a width in inches, and what stands below it."""

    draw: Callable[[Condition, float], Figure]
    caption: str


def write_paper(found: Sequence[Condition], out: Path, title: str = "hpa-bench report") -> Path:
    """Write figures as PDF and SVG, tables as LaTeX, and `paper.tex`, a document that shows them all.

    Args:
        found: the conditions; files of the second and later ones begin with their number.
        out: the folder to write into; made if need be.
        title: the document's.

    Returns:
        The path of the document.

    Raises:
        UserError: the folder cannot be written.
    """
    with refusals_told(out, GIVE_AGAIN):
        out.mkdir(parents=True, exist_ok=True)
        listed: list[str] = []
        shown: list[tuple[str, str, bool]] = []
        for index, condition in enumerate(found, 1):
            prefix = "" if index == 1 else f"{index}-"
            for name, text in latex.tables_of(condition).items():
                (out / f"{prefix}{name}.tex").write_text(
                    text.replace(r"\label{tab:", rf"\label{{tab:{prefix}"), encoding="utf-8"
                )
                listed.append(f"{prefix}{name}")
            for name, drawing in drawings(condition).items():
                for width, columns in ((COLUMN, "one-column"), (TEXT, "two-columns")):
                    file = f"{prefix}{name}-{columns}"
                    save(drawing.draw(condition, width), out / file)
                    shown.append((f"{file}.pdf", f"{condition.title}: {drawing.caption}", width == TEXT))
        path = out / "paper.tex"
        path.write_text(latex.document(title, listed, shown), encoding="utf-8")
    return path


def drawings(condition: Condition) -> dict[str, Drawing]:
    """Return the figures that there is something to draw for, by the names of their files."""
    has_safety = any(isinstance(group.final(plane(condition)[1]), Cell) for group in condition.main)
    found = {}
    if has_safety and len(condition.main) > 1:
        found["accuracy-safety"] = Drawing(
            accuracy_safety,
            "AP against MASR after the last task, with 95% intervals; filled: no other method is better in one without"
            " being worse in the other; diamonds: references.",
        )
    staged, measured = _staged(condition)
    if measured:
        safety = " and the share of harmful requests not refused (MASR)" if has_safety else ""
        found["stages"] = Drawing(
            over_stages, f"Mean accuracy over all tasks{safety} as tasks are trained, with 95% intervals."
        )
    if staged:
        found["forgetting"] = Drawing(
            forgetting, "Accuracy of each task as tasks are trained; a ring marks the stage that trains it."
        )
    if len(condition.main) > 1:
        found["differences"] = Drawing(
            differences,
            f"Each method minus {condition.reference.label}, paired by seed and by test sample, with 95% intervals;"
            " filled: told from 0 at 5% after Holm’s correction over the methods.",
        )
    return found


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PDF and SVG beside each other: the same results give the same bytes."""
    with matplotlib.rc_context(STYLE):
        lay_out(figure)  # Once, so that PDF and SVG agree.
        figure.savefig(path.with_name(f"{path.name}.pdf"), metadata={"CreationDate": None, "Producer": None})
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None, "Creator": None})


def accuracy_safety(condition: Condition, width: float) -> Figure:
    """Draw AP against MASR, each method by its name; in one column, those that matter alone have names."""
    wide = width == TEXT
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 0.58 * width if wide else 1.05 * width), layout="constrained")
        draw_plane(figure, condition, size=4 if wide else 3.6, columns=5 if wide else 3, everyone=wide)
    return figure


def _staged(condition: Condition) -> tuple[list[Group], list[Series]]:
    """Return the methods with stages that figures show, and which of accuracy and MASR any of them has."""
    accuracy, safety = plane(condition)
    groups = [group for group in shown_groups(condition) if group.last]
    listed = [accuracy._replace(metric="accuracy"), safety]
    return groups, [one for one in listed if any(isinstance(group.final(one), Cell) for group in groups)]


def over_stages(condition: Condition, width: float) -> Figure:
    """Draw mean accuracy and MASR over the stages, a line a method: one above the other, or beside each other."""
    groups, listed = _staged(condition)
    one_column = width == COLUMN
    with matplotlib.rc_context(STYLE):
        high = 1.7 * len(listed) + 0.75 if one_column else 2.75
        figure = Figure(figsize=(width, high), layout="constrained")
        grid = (len(listed), 1) if one_column else (1, len(listed))
        panels = list(figure.subplots(*grid, sharex=True, squeeze=False).flat)
        for axes, series in zip(panels, listed, strict=True):
            for index, group in enumerate(groups):
                cells = [(stage, group.cell(stage, series)) for stage in range(group.last + 1)]
                points = [(group.runs[0].trained(stage), cell) for stage, cell in cells if isinstance(cell, Cell)]
                # Side by side, so that intervals of one stage do not cover each other.
                moved = 0.28 * ((index + 0.5) / len(groups) - 0.5)
                shifted, known = [x + moved for x, _ in points], [cell for _, cell in points]
                style = _line(index)
                bars: Any = {"fmt": "none", "elinewidth": 0.6, "alpha": 0.45, "ecolor": style["color"]}
                axes.errorbar(shifted, [cell.value for cell in known], yerr=_bars(known), **bars)
                axes.plot(shifted, [cell.value for cell in known], label=drawn(group.label), **style)
            metric = METRICS[series.metric]
            name = "mean accuracy" if series.metric == "accuracy" else metric.title
            axes.set_ylabel(f"{name}, %")
            axes.set_xticks(range(len(condition.tasks) + 1))
        for axes in panels[-1:] if one_column else panels:
            axes.set_xlabel("tasks trained")
        _legend(figure, panels[0], columns=2 if one_column else 4)
    return figure


def forgetting(condition: Condition, width: float) -> Figure:
    """Draw the accuracy of each task over the stages, one panel a method."""
    groups, _ = _staged(condition)
    short = short_names(condition.tasks)
    columns = min(len(groups), 2 if width == COLUMN else 4)
    rows = math.ceil(len(groups) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 1.35 * rows + 0.8), layout="constrained")
        panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes in panels[len(groups) :]:
            axes.remove()
        for place_of, (axes, group) in enumerate(zip(panels, groups, strict=False)):
            axes.set_title(_cut(drawn(group.label), 24), loc="left")
            for index, task in enumerate(condition.tasks):
                _task_line(axes, group, task, index, short[task])
            axes.set(ylim=(-3, 103), yticks=range(0, 101, 50))
            axes.set_xticks(range(len(condition.tasks) + 1))
            if place_of % columns == 0:
                axes.set_ylabel("accuracy, %")
            if place_of + columns >= len(groups):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("tasks trained")
        _legend(figure, panels[0], columns=3 if width == COLUMN else 6)
    return figure


def _task_line(axes: Axes, group: Group, task: str, index: int, label: str) -> None:
    first: Run = group.runs[0]
    cells = [(stage, group.cell(stage, Series(task, "task", "", "accuracy"))) for stage in range(group.last + 1)]
    points = [(stage, cell.value) for stage, cell in cells if isinstance(cell, Cell)]
    style = _line(index) | {"ms": 2.6, "lw": 0.9}
    axes.plot([first.trained(stage) for stage, _ in points], [y for _, y in points], label=drawn(label), **style)
    for stage, y in points:
        if stage and task in first.curriculum[stage - 1]:
            ring: Any = {"marker": "o", "ms": 6, "mfc": "none", "mec": style["color"], "mew": 0.7}
            axes.plot(first.trained(stage), y, **ring)


def differences(condition: Condition, width: float) -> Figure:
    """Draw each method minus the reference in AP and MASR, with intervals; filled where told from 0."""
    reference = condition.reference
    others = [group for group in condition.main if group is not reference]
    pairs = [(reference, group) for group in others]
    listed = [one for one in plane(condition) if any(isinstance(group.final(one), Cell) for group in others)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 0.62 + 0.145 * len(others)), layout="constrained")
        panels = list(figure.subplots(1, len(listed) or 1, sharey=True, squeeze=False).flat)
        contrasts = tables.paired(pairs, listed)
        for column, (axes, series) in enumerate(zip(panels, listed, strict=False)):
            axes.axvline(0, color="#444444", lw=0.7)
            for row, found in enumerate(contrasts):
                cell, differs = found[column].cell, found[column].differs
                if isinstance(cell, Cell):
                    colour = "#000000" if differs else "#6f6f6f"
                    mark: Any = {"marker": "o", "color": colour, "mfc": colour if differs else "white", "ms": 3.2}
                    axes.errorbar(cell.value, row, xerr=_bars([cell]), elinewidth=0.9, **mark)
            metric = METRICS[series.metric]
            axes.set_xlabel(f"Δ {metric.title}, pp {'↑' if metric.better == 'higher' else '↓'}")
        longest = 18 if width == COLUMN else 40
        panels[0].set_yticks(range(len(others)), [_cut(drawn(group.label), longest) for group in others])
        panels[0].set_ylim(len(others) - 0.4, -0.6)
    return figure


def _line(index: int) -> dict[str, Any]:
    """Return the style of a line: no two of a figure's first 56 have the same marker and the same dashes."""
    number = len(COLOURS)
    style = {"color": COLOURS[index % number], "marker": MARKERS[index % number], "ls": DASHES[index % len(DASHES)]}
    return style | {"mec": "white", "mew": 0.3}


def _bars(cells: Sequence[Cell]) -> list[list[float]]:
    return [[max(0, cell.value - cell.low) for cell in cells], [max(0, cell.high - cell.value) for cell in cells]]


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
