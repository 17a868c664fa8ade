"""The report's figures: matplotlib without global state, the same bytes for the same results."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Affine2D

from hpa_bench.metrics import METRICS
from hpa_bench.names import short_names
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import REFERENCES, Group
from hpa_bench.report.noise import Spread
from hpa_bench.report.ranking import shown_groups
from hpa_bench.report.tables import absent
from hpa_bench.results.measures import Cell, Series
from hpa_bench.results.tuned import Tuned

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
    "text.parse_math": False,  # Dollars in a setting are dollars.
    "figure.dpi": 100,
}


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as PNG and SVG and return the SVG for use inside HTML.

    Without date, version and namespaces: the same results give the same bytes, and the page names no network address.
    """

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


def drawable(condition: Condition) -> dict[str, bool]:
    """Return which figures a condition has the numbers for, by the name of their file."""
    shown = shown_groups(condition)
    judged = any(isinstance(group.cell(0, plane(condition)[1]), Cell) for group in shown)
    return {"forgetting": bool(shown), "safety-trajectory": judged, "safety-against-accuracy": judged}


def page_figures(condition: Condition, curves: bool = True) -> dict[str, Figure | None]:
    """Return the figures of a condition, by the name of their file; None where nothing is to be drawn.

    Args:
        condition: the condition.
        curves: whether those over the stages are drawn, which take longest.
    """
    against = safety_against_accuracy if len(condition.main) > 1 else safety_over_stages
    drawings = {"safety-against-accuracy": against}
    if curves:
        drawings = {"forgetting": forgetting_curves, "safety-trajectory": safety_trajectory} | drawings
    has = drawable(condition)
    return {name: draw(condition) if has[name] else None for name, draw in drawings.items()}


def accuracy_matrix(group: Group, condition: Condition) -> Figure:
    """Draw a method's accuracy of each task after each stage; what a stage trained is framed."""

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
                text = f"{cell.value:.1f}" if isinstance(cell, Cell) else absent(cell)
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
    """Draw each task's accuracy over the stages, one panel a method shown; a ring marks the stage that trains it."""

    short = short_names(condition.tasks)
    with matplotlib.rc_context(STYLE):
        groups = shown_groups(condition)
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


def safety_trajectory(condition: Condition) -> Figure:
    """Draw MASR with its interval and each set's ASR over the stages, one panel a method shown.

    A hatched band reaches from the lowest to the highest MASR of the method's noise runs.
    """

    short, reference = short_names(condition.safety_sets), condition.reference
    masr = plane(condition)[1]
    floors = {floor.label: floor for floor in condition.noise}
    with matplotlib.rc_context(STYLE):
        groups = shown_groups(condition)
        figure, panels = _panels(len(groups), "ASR, %", condition)
        for axes, group in zip(panels, groups, strict=True):
            axes.set_title(_wrapped(group.label, 30), loc="left")
            if len(groups) > 1:
                points = _points(reference, masr)
                xs = [reference.runs[0].trained(stage) for stage, _ in points]
                ys = [cell.value for _, cell in points]
                axes.plot(xs, ys, color="#8c8c8c", lw=1.2, ls=(0, (1, 1.5)), label=f"MASR of {reference.label}")
            for index, name in enumerate(condition.safety_sets):
                points = _points(group, masr._replace(set=name, metric="asr"))
                xs, ys = [group.runs[0].trained(stage) for stage, _ in points], [cell.value for _, cell in points]
                style: Any = {"color": COLOURS[1 + index % (len(COLOURS) - 1)], "marker": MARKERS[1 + index % 7]}
                axes.plot(xs, ys, lw=0.9, ms=3.5, alpha=0.9, label=f"ASR {short[name]}", clip_on=False, **style)
            points = _points(group, masr)
            xs, ys = [group.runs[0].trained(stage) for stage, _ in points], [cell.value for _, cell in points]
            lows, highs = [cell.low for _, cell in points], [cell.high for _, cell in points]
            axes.fill_between(xs, lows, highs, color=COLOURS[0], alpha=0.18, lw=0)
            axes.plot(xs, ys, color=COLOURS[0], marker="o", ms=4.5, lw=2.2, label="MASR, 95% interval", clip_on=False)
            if group.label in floors:
                _noise_band(axes, group, [floors[group.label].spread(masr, stage) for stage in range(group.last + 1)])
        _shared_legend(figure, panels)
    return figure


def safety_against_accuracy(condition: Condition) -> Figure:
    """Draw AP against MASR with 95% intervals and the Pareto front.

    On the front are the methods that no other beats in one without losing in the other.

    Methods are numbered in the order of the main table; the front leaves out `REFERENCES`. Around a method with noise
    runs, a box reaches two of their sds to each side.
    """

    accuracy, safety = plane(condition)
    numbered = [(group, group.final(accuracy), group.final(safety)) for group in condition.main]
    found = [
        (number, group, x, y)
        for number, (group, x, y) in enumerate(numbered, 1)
        if isinstance(x, Cell) and isinstance(y, Cell)
    ]
    rivals = [(x.value, y.value) for _, group, x, y in found if group.method not in REFERENCES]
    front = sorted((x, y) for x, y in rivals if not any(a >= x and b <= y and (a, b) != (x, y) for a, b in rivals))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.8, max(4.6, 0.7 + 0.215 * len(found))), layout="constrained")
        axes = figure.subplots()
        xs, ys = [x for x, _ in front], [y for _, y in front]
        axes.step(xs, ys, where="pre", color="#8c8c8c", lw=1, ls=(0, (4, 2)), label="Pareto front")
        for number, group, x, y in found:
            known = group.method in REFERENCES
            colour = "#777777" if known else COLOURS[1] if group.method == "hpa" else COLOURS[0]
            filled = not known and (x.value, y.value) in front
            bars: Any = {"xerr": bars_of(x), "yerr": bars_of(y), "fmt": "none", "elinewidth": 1, "alpha": 0.3}
            axes.errorbar(x.value, y.value, ecolor=colour, **bars)
            style: Any = {"color": colour, "mfc": colour if filled else "white", "mew": 1.3, "ms": 6.5, "ls": "none"}
            label = _wrapped(f"{number}  {group.label}", 40)
            axes.plot(x.value, y.value, marker="D" if known else "o", label=label, **style)
        _noise_boxes(axes, condition, {group.label: (x.value, y.value) for _, group, x, y in found})
        axes.set_xlabel("AP, %  (higher is better)")
        axes.set_ylabel("MASR, %  (lower is better)")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        figure.legend(loc="outside right center", fontsize=8, labelspacing=0.35)
        _number(figure, axes, [(str(number), x.value, y.value) for number, _, x, y in found])
    return figure


def safety_over_stages(condition: Condition) -> Figure:
    """Draw one method's path over the stages: mean accuracy over all tasks against MASR, with 95% intervals."""

    group, (accuracy, safety) = condition.main[0], plane(condition)
    found = [
        (stage, group.cell(stage, accuracy._replace(metric="accuracy")), group.cell(stage, safety))
        for stage in range(group.last + 1)
    ]
    points = [(str(stage), x, y) for stage, x, y in found if isinstance(x, Cell) and isinstance(y, Cell)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([x.value for _, x, _ in points], [y.value for _, _, y in points], color="#8c8c8c", lw=1)
        for _, x, y in points:
            bars: Any = {"xerr": bars_of(x), "yerr": bars_of(y), "fmt": "none", "elinewidth": 1}
            axes.errorbar(x.value, y.value, ecolor=COLOURS[0], **bars)
            axes.plot(x.value, y.value, "o", color=COLOURS[0], ms=7, mec="white", mew=0.7)
        axes.set_xlabel("mean accuracy over all tasks, %  (higher is better)")
        axes.set_ylabel("MASR, %  (lower is better)")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.set_title(f"{_wrapped(group.label, 60)}: numbers are stages", loc="left")
        _number(figure, axes, [(stage, x.value, y.value) for stage, x, y in points])
    return figure


def keep_rate(groups: Sequence[Group], condition: Condition) -> Figure | None:
    """Draw AP and MASR against p_max, from the settings that change p_max and p_min alone.

    Args:
        groups: a method's settings, its default first.
        condition: where they were run.

    Returns:
        None where there are fewer than three such settings, the default included.
    """

    default = groups[0]
    swept = [group for group in groups if set(group.changed(default)) <= {"p_max", "p_min"}]
    if len(swept) < 3 or "p_max" not in default.config or "p_min" not in default.config:
        return None
    swept.sort(key=lambda group: (group.config["p_max"], group.config["p_min"]))
    places = [f"{group.config['p_max']:g} / {group.config['p_min']:g}" for group in swept]
    series = plane(condition)[: 2 if condition.safety_sets else 1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.8 + 3.9 * len(series), 3.3), layout="constrained")
        for axes, column in zip(figure.subplots(1, len(series), squeeze=False).flat, series, strict=True):
            cells = [(place, group.final(column)) for place, group in enumerate(swept)]
            found = [(place, cell) for place, cell in cells if isinstance(cell, Cell)]
            xs, ys = [place for place, _ in found], [cell.value for _, cell in found]
            bars: Any = {"yerr": bars_of(*(cell for _, cell in found)), "elinewidth": 1, "capsize": 2.5}
            axes.errorbar(xs, ys, color=COLOURS[1], marker="o", ms=5, lw=1.4, **bars)
            for place, cell in found:
                if swept[place] is default:
                    ring: Any = {"marker": "o", "ms": 12, "mfc": "none", "mec": "#444444", "ls": "none"}
                    axes.plot(place, cell.value, label="default", **ring)
            against = condition.reference.final(column)
            if condition.reference not in groups and isinstance(against, Cell):
                axes.axhline(against.value, color="#8c8c8c", lw=1.2, ls=(0, (1, 1.5)), label=condition.reference.label)
            axes.set_xticks(range(len(places)), places, rotation=25 if len(places) > 7 else 0)
            axes.set_xlabel("p_max / p_min, % of columns kept")
            metric = METRICS[column.metric]
            axes.set_title(f"{metric.title}, {metric.unit}  ({metric.better} is better)", loc="left")
        axes.legend(loc="best", fontsize=8)
    return figure


def trial_fronts(tuned: Tuned) -> Figure:
    """Draw every method's trials, AP against MASR on validation rows, one panel a method.

    The dashed line joins the trials that no other beats in one without losing in the other.
    """
    methods = {name: method for name, method in tuned.methods.items() if method.front()}
    columns = min(4, max(1, len(methods)))
    rows = math.ceil(len(methods) / columns) or 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.8 + 2.5 * columns, 1.2 + 2.1 * rows), layout="constrained")
        panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes in panels[len(methods) :]:
            axes.remove()
        for index, (axes, (name, method)) in enumerate(zip(panels, methods.items(), strict=False)):
            axes.set_title(_wrapped(name, 30), loc="left")
            points = [(trial.scores["ap"], trial.scores["masr"]) for trial in method.front()]
            style: Any = {"where": "pre", "color": "#8c8c8c", "lw": 1, "ls": (0, (4, 2)), "label": "front"}
            axes.step([x for x, _ in points], [y for _, y in points], **style)
            for number, trial in enumerate(method.trials):
                if {"ap", "masr"} <= trial.scores.keys():
                    chosen = method.is_chosen(trial)
                    label = "defaults" if number == 0 else "trial"
                    style = {"marker": "D" if number == 0 else "o", "color": COLOURS[0], "ls": "none", "ms": 5.5}
                    face = COLOURS[1] if chosen else "white"
                    x, y = trial.scores["ap"], trial.scores["masr"]
                    axes.plot(x, y, mfc=face, label=f"{label}, chosen" if chosen else label, clip_on=False, **style)
            if index + columns >= len(methods):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("AP, %  (higher is better)")
            if index % columns == 0:
                axes.set_ylabel("MASR, %")
        if methods:
            _shared_legend(figure, panels[: len(methods)])
    return figure


def _noise_band(axes: Axes, group: Group, spreads: Sequence[Spread | str]) -> None:
    found = [(group.runs[0].trained(stage), one) for stage, one in enumerate(spreads) if isinstance(one, Spread)]
    xs, lows, highs = [x for x, _ in found], [one.least for _, one in found], [one.most for _, one in found]
    style: Any = {"facecolor": "none", "edgecolor": "#444444", "hatch": "////", "lw": 0, "alpha": 0.6}
    axes.fill_between(xs, lows, highs, label="MASR of noise runs", **style)


def _noise_boxes(axes: Axes, condition: Condition, places: Mapping[str, tuple[float, float]]) -> None:
    """Draw boxes of two sds of the noise runs to each side of their methods' points."""
    label = "noise floor: ± 2 sd of one run"
    for floor in condition.noise:
        wide, high = (floor.spread(series) for series in plane(condition))
        if floor.label in places and isinstance(wide, Spread) and isinstance(high, Spread):
            x, y = places[floor.label]
            bottom = max(0.0, y - 2 * high.sd)
            size = 4 * wide.sd, y + 2 * high.sd - bottom
            axes.add_patch(Rectangle((x - 2 * wide.sd, bottom), *size, fc="#444444", alpha=0.15, lw=0, label=label))
            axes.autoscale_view()
            label = "_nolegend_"


def bars_of(*cells: Cell) -> list[list[float]]:
    """Return what an error bar reaches below and above each number."""
    return [[max(0, cell.value - cell.low) for cell in cells], [max(0, cell.high - cell.value) for cell in cells]]


def _points(group: Group, series: Series) -> list[tuple[int, Cell]]:
    cells = [(stage, group.cell(stage, series)) for stage in range(group.last + 1)]
    return [(stage, cell) for stage, cell in cells if isinstance(cell, Cell)]


def _panels(count: int, ylabel: str, condition: Condition) -> tuple[Figure, list[Axes]]:

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
    found = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    by_label = {label: handle for handle, label in reversed(found)}
    labels = list(dict.fromkeys(label for _, label in found))
    handles = [by_label[label] for label in labels]
    wide = 0.075 * max(map(len, labels)) + 0.6  # Inches that an entry takes.
    columns = min(len(labels), max(1, int(figure.get_figwidth() / wide)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _number(figure: Figure, axes: Axes, labels: Sequence[tuple[str, float, float]]) -> None:
    """Write a short label beside each point, the nearest place at which it meets no other label and no point."""

    figure.draw_without_rendering()  # The layout, and with it where the points are.
    scale = figure.dpi / 72
    points = [tuple(axes.transData.transform((x, y)) / scale) for _, x, y in labels]
    inside = axes.get_window_extent().transformed(Affine2D().scale(1 / scale)).padded(-5)
    taken: list[tuple[float, float]] = []

    def apart(one: tuple[float, float], other: tuple[float, float]) -> float:
        return math.hypot((one[0] - other[0]) / 1.4, one[1] - other[1])

    for (text, x, y), (left, low) in zip(labels, points, strict=True):
        places = [
            (left + away * math.cos(turn * math.pi / 8), low + away * math.sin(turn * math.pi / 8))
            for away in (11, 15, 21, 28, 36)
            for turn in (2, 6, 14, 10, 0, 8, 4, 12, 1, 3, 5, 7, 9, 11, 13, 15)
        ]
        room = [
            # Two digits are wider than high.
            min([apart(place, other) - 10 for other in taken] + [apart(place, other) - 7 for other in points])
            if inside.contains(*place)
            else -math.inf
            for place in places
        ]
        best = next(
            (place for place, free in zip(places, room, strict=True) if free >= 0), places[room.index(max(room))]
        )
        taken.append(best)
        line = {"arrowstyle": "-", "lw": 0.6, "color": "#777777", "shrinkA": 4, "shrinkB": 4}
        note = axes.annotate(
            text,
            (x, y),
            xytext=(best[0] - left, best[1] - low),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            arrowprops=line if math.dist(best, (left, low)) > 12 else None,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
            zorder=5,
        )
        note.set_in_layout(False)


def _wrapped(label: str, width: int) -> str:

    return "\n".join(textwrap.wrap(label, width))
