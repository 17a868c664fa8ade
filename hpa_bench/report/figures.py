"""The report's figures: matplotlib without global state, the same bytes for the same results."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hpa_bench.metrics import METRICS
from hpa_bench.names import short_names
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import Group
from hpa_bench.report.kinds import COLOURS as OF_KINDS
from hpa_bench.report.labels import FONT, Label, drawn, lay_out, place
from hpa_bench.report.noise import Spread
from hpa_bench.report.ranking import shown_groups
from hpa_bench.report.scatter import SOFT, draw_plane
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
    "font.sans-serif": [FONT],
    "figure.dpi": 100,
}
PNG_DPI = 200
AGAINST = "safety-against-accuracy"
_INK = "#1b2127"
TWO_SCHEMES: Any = {
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
"""What a figure that is also shown in a dark scheme adds to the style: no text or line in plain black, which SVG files
do not name."""
_DARK = {
    **dict(OF_KINDS.values()),
    _INK: "#e8ecef",
    SOFT: "#a9b4bd",
    "#e6e6e6": "#39424a",
    "#8c8c8c": "#8c98a2",
    "#ffffff": "#14181c",
}
"""By the light colour of a figure, its dark one, as the page's stylesheet has them."""


def save(figure: Figure, folder: Path, name: str, dark: bool = False) -> str:
    """Write a figure as PNG and SVG and return the SVG for use inside HTML.

    Without date, version and namespaces: the same results give the same bytes, and the page names no network address.

    Args:
        figure: in `STYLE`.
        folder: made if need be.
        name: of the files, without a suffix.
        dark: whether the SVG file has dark colours too, for who prefers them; of a figure in `TWO_SCHEMES`.
    """

    folder.mkdir(parents=True, exist_ok=True)
    written = io.StringIO()
    with matplotlib.rc_context(STYLE):
        lay_out(figure, PNG_DPI)  # Once is enough, and PNG and SVG agree.
        figure.savefig(folder / f"{name}.png", dpi=PNG_DPI, metadata={"Software": None})
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at line ends, which version control complains about.
    svg = re.sub(r"[ \t]+$", "", written.getvalue(), flags=re.MULTILINE)
    (folder / f"{name}.svg").write_text(_both_schemes(svg) if dark else svg, encoding="utf-8")
    inline = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # Inside one page, two figures must not share an id.
    inline = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inline)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", inline)


def _both_schemes(svg: str) -> str:
    """Return an SVG with a dark colour beside each light one, for who prefers a dark scheme."""
    rules = [
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important; }}'
        for light, dark in _DARK.items()
        for kind in ("fill", "stroke")
    ]
    style = "\n".join(['<style type="text/css">@media (prefers-color-scheme: dark) {', *rules, "}</style>"])
    return svg.replace(" <defs>", f" {style}\n <defs>", 1)


def drawable(condition: Condition) -> dict[str, bool]:
    """Return which figures a condition has the numbers for, by the name of their file."""
    shown = shown_groups(condition)
    judged = any(isinstance(group.cell(0, plane(condition)[1]), Cell) for group in shown)
    return {"forgetting": bool(shown), "safety-trajectory": judged, AGAINST: judged}


def page_figures(condition: Condition, curves: bool = True) -> dict[str, Callable[[Condition], Figure]]:
    """Return what draws the figures that a condition has the numbers for, by the name of their file.

    Args:
        condition: the condition.
        curves: whether those over the stages are drawn, which take longest.
    """
    against = safety_against_accuracy if len(condition.main) > 1 else safety_over_stages
    drawings = {AGAINST: against}
    if curves:
        drawings = {"forgetting": forgetting_curves, "safety-trajectory": safety_trajectory} | drawings
    has = drawable(condition)
    return {name: draw for name, draw in drawings.items() if has[name]}


def accuracy_matrix(group: Group, condition: Condition) -> Figure:
    """Draw a method's accuracy of each task after each stage; what a stage trained is framed."""

    tasks, short = condition.tasks, _named(condition.tasks)
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

    short = _named(condition.tasks)
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

    short, reference = _named(condition.safety_sets), condition.reference
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
                axes.plot(xs, ys, color="#8c8c8c", lw=1.2, ls=(0, (1, 1.5)), label=f"MASR of {drawn(reference.label)}")
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
    """Draw AP against MASR with 95% intervals and the Pareto front, each method by its name.

    On the front are the methods that no other beats in one without losing in the other; `REFERENCES` compete with none.
    Around a method with noise runs, a box reaches two of their sds to each side.
    """

    with matplotlib.rc_context(STYLE | TWO_SCHEMES):
        figure = Figure(figsize=(8.8, 5.6), layout="constrained")
        draw_plane(figure, condition, size=6, columns=5)
    return figure


def safety_over_stages(condition: Condition) -> Figure:
    """Draw one method's path over the stages: mean accuracy over all tasks against MASR, with 95% intervals."""

    group, (accuracy, safety) = condition.main[0], plane(condition)
    found = [
        (stage, group.cell(stage, accuracy._replace(metric="accuracy")), group.cell(stage, safety))
        for stage in range(group.last + 1)
    ]
    points = [(str(stage), x, y) for stage, x, y in found if isinstance(x, Cell) and isinstance(y, Cell)]
    with matplotlib.rc_context(STYLE | TWO_SCHEMES):
        figure = Figure(figsize=(5.6, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([x.value for _, x, _ in points], [y.value for _, _, y in points], color=SOFT, lw=1)
        for _, x, y in points:
            bars: Any = {"xerr": bars_of(x), "yerr": bars_of(y), "fmt": "none", "elinewidth": 1, "alpha": 0.35}
            axes.errorbar(x.value, y.value, ecolor=COLOURS[0], **bars)
            axes.plot(x.value, y.value, "o", color=COLOURS[0], ms=7, mec="white", mew=0.7)
        axes.set_xlabel("mean accuracy over all tasks, %  (higher is better)")
        axes.set_ylabel("MASR, %  (lower is better)")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.set_title(f"{_wrapped(group.label, 60)}: numbers are stages", loc="left")
        place(figure, axes, [Label(stage, x.value, y.value) for stage, x, y in points])
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
                axes.axhline(
                    against.value, color="#8c8c8c", lw=1.2, ls=(0, (1, 1.5)), label=drawn(condition.reference.label)
                )
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


def _named(names: Sequence[str]) -> dict[str, str]:
    """Return sets by their short names, as a figure has them."""
    return {name: drawn(short) for name, short in short_names(names).items()}


def _wrapped(label: str, width: int) -> str:
    return "\n".join(textwrap.wrap(drawn(label), width))
