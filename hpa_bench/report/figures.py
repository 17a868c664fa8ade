"""The report's figures: matplotlib without global state, the same bytes for the same results."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpa_bench.measures import ALL, Cell, Series
from hpa_bench.report.groups import Condition, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, without its yellow: told apart with every common colour blindness, and dark enough on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "hpa-bench",
    "svg.fonttype": "path",
    "figure.dpi": 100,
}


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as PNG and SVG and return the SVG for use inside HTML.

    Without date, version and namespaces: the same results give the same bytes, and the page names no network address.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    drawn = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
        figure.set_layout_engine("none")  # Laid out once is enough, and PNG and SVG agree.
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at line ends, which version control complains about.
    svg = re.sub(r"[ \t]+$", "", drawn.getvalue(), flags=re.MULTILINE)
    (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    inline = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # Inside one page, two figures must not share an id.
    inline = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inline)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", inline)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names without the prefix that all share, such as `tiny_`."""
    prefixes = {name.split("_", 1)[0] + "_" for name in names if "_" in name}
    same = len(names) > 1 and len(prefixes) == 1 and all("_" in name for name in names)
    return {name: name.split("_", 1)[1] if same else name for name in names}


def accuracy_matrix(group: Group, condition: Condition) -> Figure:
    """Draw a method's accuracy of each task after each stage; what a stage trained is framed."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    tasks, short = condition.tasks, short_names(condition.tasks)
    curriculum = group.runs[0].curriculum
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.6 + 0.72 * len(tasks), 1.5 + 0.36 * (len(curriculum) + 1)), layout="constrained")
        axes = figure.subplots()
        colours = matplotlib.colormaps["Blues"]
        for stage in range(len(curriculum) + 1):
            for column, task in enumerate(tasks):
                cell = group.cell(stage, Series(task, "task", "", "accuracy"))
                trained = stage > 0 and task in curriculum[stage - 1]
                known = isinstance(cell, Cell)
                shade = cell.value / 100 if isinstance(cell, Cell) else 0.0
                face: Any = colours(0.9 * shade) if known else "#f2f2f2"
                hatch = None if known else "////"
                axes.add_patch(Rectangle((column, stage), 1, 1, facecolor=face, edgecolor="white", hatch=hatch))
                text = f"{cell.value:.1f}" if isinstance(cell, Cell) else "missing"
                colour = "white" if shade > 0.72 else "#222222"
                size = 8.5 if known else 7
                axes.text(column + 0.5, stage + 0.5, text, ha="center", va="center", color=colour, fontsize=size)
                if trained:
                    frame = Rectangle((column + 0.04, stage + 0.05), 0.92, 0.9, fill=False, edgecolor="#D55E00", lw=1.6)
                    axes.add_patch(frame)
        axes.set(xlim=(0, len(tasks)), ylim=(len(curriculum) + 1, 0))
        longest = max(len(short[task]) for task in tasks)
        turned: Any = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if longest > 9 else {}
        axes.set_xticks([column + 0.5 for column in range(len(tasks))], [short[task] for task in tasks], **turned)
        labels = ["0  aligned"] + [
            f"{stage}  {short[trained[0]] if len(trained) == 1 else f'{len(trained)} tasks'}"
            for stage, trained in enumerate(curriculum, 1)
        ]
        axes.set_yticks([row + 0.5 for row in range(len(labels))], labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_ylabel("after stage")
        axes.set_title(f"{_wrapped(group.label, 44)}\naccuracy, %", loc="left")
    return figure


def forgetting_curves(condition: Condition) -> Figure:
    """Draw each task's accuracy over the stages, one panel a method; a ring marks the stage that trains the task."""
    import matplotlib

    short = short_names(condition.tasks)
    with matplotlib.rc_context(STYLE):
        groups = _with_stages(condition)
        figure, panels = _panels(len(groups), "accuracy, %", condition)
        for axes, group in zip(panels, groups, strict=True):
            axes.set_title(_wrapped(group.label, 30), loc="left")
            for index, task in enumerate(condition.tasks):
                points = _points(group, Series(task, "task", "", "accuracy"))
                colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
                xs, ys = [group.runs[0].trained(stage) for stage, _ in points], [cell.value for _, cell in points]
                axes.plot(xs, ys, color=colour, marker=marker, ms=4, lw=1.4, label=short[task], clip_on=False)
                for stage, cell in points:
                    if stage and task in group.runs[0].curriculum[stage - 1]:
                        x = group.runs[0].trained(stage)
                        axes.plot(x, cell.value, marker="o", ms=10, mfc="none", mec=colour, mew=1.1, clip_on=False)
        _shared_legend(figure, panels)
    return figure


def safety_trajectory(condition: Condition, judge: str) -> Figure:
    """Draw MASR with its interval and each set's ASR over the stages, one panel a method."""
    import matplotlib

    short, reference = short_names(condition.safety_sets), condition.reference
    masr = Series(ALL, "safety", judge, "masr")
    with matplotlib.rc_context(STYLE):
        groups = _with_stages(condition)
        figure, panels = _panels(len(groups), "not refused, %", condition)
        for axes, group in zip(panels, groups, strict=True):
            axes.set_title(_wrapped(group.label, 30), loc="left")
            if len(groups) > 1:
                points = _points(reference, masr)
                xs = [reference.runs[0].trained(stage) for stage, _ in points]
                ys = [cell.value for _, cell in points]
                axes.plot(xs, ys, color="#8c8c8c", lw=1.2, ls=(0, (1, 1.5)), label=f"MASR of {reference.label}")
            for index, name in enumerate(condition.safety_sets):
                points = _points(group, Series(name, "safety", judge, "asr"))
                xs, ys = [group.runs[0].trained(stage) for stage, _ in points], [cell.value for _, cell in points]
                style: Any = {"color": COLOURS[1 + index % (len(COLOURS) - 1)], "marker": MARKERS[1 + index % 7]}
                axes.plot(xs, ys, lw=0.9, ms=3.5, alpha=0.9, label=f"ASR {short[name]}", clip_on=False, **style)
            points = _points(group, masr)
            xs, ys = [group.runs[0].trained(stage) for stage, _ in points], [cell.value for _, cell in points]
            lows, highs = [cell.low for _, cell in points], [cell.high for _, cell in points]
            axes.fill_between(xs, lows, highs, color=COLOURS[0], alpha=0.18, lw=0)
            axes.plot(xs, ys, color=COLOURS[0], marker="o", ms=4.5, lw=2.2, label="MASR, 95% interval", clip_on=False)
        _shared_legend(figure, panels)
    return figure


def safety_against_accuracy(condition: Condition, judge: str) -> Figure:
    """Draw AP against MASR with 95% intervals; for a single method, its path over the stages."""
    import matplotlib
    from matplotlib.figure import Figure

    masr = Series(ALL, "safety", judge, "masr")
    with matplotlib.rc_context(STYLE):
        many = len(condition.groups) > 1
        rows = math.ceil(len(condition.groups) / (1 if len(condition.groups) < 13 else 2)) if many else 1
        figure = Figure(figsize=(8.2 if many else 5.6, max(4.2, 0.8 + 0.27 * rows)), layout="constrained")
        axes = figure.subplots()
        average = Series(ALL, "task", "", "accuracy")
        for index, group in enumerate(condition.groups):
            stages = [group.last] if many else list(range(group.last + 1))
            found = [(stage, group.cell(stage, average), group.cell(stage, masr)) for stage in stages]
            points = [(stage, x, y) for stage, x, y in found if isinstance(x, Cell) and isinstance(y, Cell)]
            if not points:
                continue
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            if not many:
                axes.plot([x.value for _, x, _ in points], [y.value for _, _, y in points], color="#8c8c8c", lw=1)
            for stage, x, y in points:
                low_high = [[max(0, x.value - x.low)], [max(0, x.high - x.value)]]
                down_up = [[max(0, y.value - y.low)], [max(0, y.high - y.value)]]
                axes.errorbar(x.value, y.value, xerr=low_high, yerr=down_up, fmt="none", ecolor=colour, elinewidth=1)
                label = _wrapped(group.label, 30) if many else None
                axes.plot(x.value, y.value, marker, color=colour, ms=8, mec="white", mew=0.7, label=label)
                if not many:
                    axes.annotate(
                        str(stage), (x.value, y.value), xytext=(-6, 6), textcoords="offset points", ha="right"
                    )
        axes.set_xlabel("AP, %  (higher is better)" if many else "mean accuracy over all tasks, %  (higher is better)")
        axes.set_ylabel("MASR, %  (lower is better)")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        if many:
            columns = 1 if len(condition.groups) < 13 else 2
            figure.legend(loc="outside right center", ncols=columns, fontsize=8)
        else:
            axes.set_title(f"{_wrapped(condition.groups[0].label, 60)}: numbers are stages", loc="left")
    return figure


def _points(group: Group, series: Series) -> list[tuple[int, Cell]]:
    cells = [(stage, group.cell(stage, series)) for stage in range(group.last + 1)]
    return [(stage, cell) for stage, cell in cells if isinstance(cell, Cell)]


def _with_stages(condition: Condition) -> list[Group]:
    # A method with one model, such as zero_shot, has no curve; alone, it still gets its points.
    return [group for group in condition.groups if group.last] or condition.groups


def _panels(count: int, ylabel: str, condition: Condition) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(count, 4 if count > 6 else 3)
    rows = math.ceil(count / columns)
    size = (5.6, 3.6) if count == 1 else (0.6 + 2.7 * columns, 0.9 + 2.1 * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.remove()
    for index, axes in enumerate(panels[:count]):
        axes.set(xlim=(-0.15, len(condition.tasks) + 0.15), ylim=(-3, 103))
        axes.set_xticks(range(len(condition.tasks) + 1))
        axes.set_yticks(range(0, 101, 25))
        if index + columns >= count:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("tasks trained")
        if index % columns == 0:
            axes.set_ylabel(ylabel)
    return figure, panels[:count]


def _shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(len(labels), 3 if len(panels) == 1 else 4 if len(panels) == 2 else 6)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _wrapped(label: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(label, width))
