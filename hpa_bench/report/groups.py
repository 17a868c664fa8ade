"""Which runs belong together: seeds of one method in one condition; never across conditions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations, pairwise, zip_longest
from typing import Any

from hpa_bench.errors import UserError
from hpa_bench.metrics import CONTINUAL
from hpa_bench.report.definitions import METRICS
from hpa_bench.results.agreement import VERSUS
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.measures import ALL, Cell, Key, Measure, Series, combine
from hpa_bench.results.runs import Run, flat

REFERENCES = ("zero_shot", "joint")
"""Methods that no other competes with: the aligned model as it is, and one training on all tasks at once."""
MANY_SETTINGS = 3
"""From so many settings beside its default on, a method's settings stand in a section of their own."""
SHOWN = 8
"""Methods in a figure with one panel a method."""
_FIRST = (*REFERENCES, "seqft", "hpa")
# Settings that change how fast a run is, or who judges it, but not what is measured.
_IRRELEVANT = (
    "suite_config.name",
    "suite_config.description",
    "suite_config.judges",
    "suite_config.include_paths",
    "suite_config.cpu_threads",
    "suite_config.evaluation.engine",
    "suite_config.evaluation.batch_size",
    "suite_config.training.save_steps",
)


class Group:
    """The seeds of one method, with one config."""

    def __init__(self, label: str, runs: Sequence[Run]) -> None:
        self.label = label
        self.runs = sorted(runs, key=lambda run: run.seed)
        self._cells: dict[Key, Cell | str] = {}
        for first, second in pairwise(self.runs):
            if first.seed == second.seed:
                raise UserError(
                    f"{first.folder.path} and {second.folder.path} are both {label} with seed {first.seed}:"
                    " give one of them."
                )

    @property
    def method(self) -> str:
        """The method's name, without its config."""
        return self.runs[0].manifest.method

    @property
    def is_default(self) -> bool:
        """Whether the method runs with its defaults."""
        return self.label == self.method

    @cached_property
    def config(self) -> dict[str, Any]:
        """The method's whole config under dotted names."""
        return flat(self.runs[0].manifest.config)

    def changed(self, default: Group) -> dict[str, Any]:
        """Return the settings that differ from the default's, in the order of the config."""
        return {key: value for key, value in self.config.items() if value != default.config.get(key)}

    @property
    def seeds(self) -> str:
        """The number of runs, such as "3", or "2 of 3" where one is not complete."""
        complete = sum(not run.missing for run in self.runs)
        return f"{complete}" if complete == len(self.runs) else f"{complete} of {len(self.runs)}"

    @property
    def missing(self) -> str:
        """Why the first run that is not complete is not; empty where all are."""
        return next((run.missing for run in self.runs if run.missing), "")

    @property
    def last(self) -> int:
        """The last stage."""
        return self.runs[0].last

    def cell(self, stage: int, series: Series) -> Cell | str:
        """Return a number over the seeds that have it; where none has, "-" or "missing: reason"."""
        key = Key(stage, series)
        if key not in self._cells:  # The page, the tables and the figures ask for the same ones.
            measures = [measure for run in self.runs if (measure := run.measure(key))]
            self._cells[key] = combine(key, measures) if measures else self.runs[0].absence(key)
        return self._cells[key]

    def final(self, series: Series) -> Cell | str:
        """Return a number after the last stage."""
        return self.cell(self.last, series)

    def difference(self, other: Group, series: Series) -> Cell | str:
        """Return this method's final number minus another's, paired by seed and by sample."""
        pairs = []
        theirs = {run.seed: run for run in other.runs}
        for run in self.runs:
            one = run.measures.get(Key(self.last, series))
            two = theirs[run.seed].measures.get(Key(other.last, series)) if run.seed in theirs else None
            if one and two:
                pairs.append(Measure(one.value - two.value, one.n, one.replicates - two.replicates))
        if pairs:
            return combine(Key(self.last, series), pairs)
        absent = [cell for cell in (self.final(series), other.final(series)) if isinstance(cell, str)]
        return absent[0] if absent else "missing: no seed in common"


class Condition:
    """What makes runs comparable: suite, order, data and training recipe."""

    def __init__(self, title: str, short: str, runs: Sequence[Run]) -> None:
        self.title = title
        self.short = short
        by_label: dict[str, list[Run]] = {}
        for run in runs:
            by_label.setdefault(run.label, []).append(run)
        groups = [Group(label, members) for label, members in by_label.items()]
        rank = {name: index for index, name in enumerate(_FIRST)}
        self.groups = sorted(groups, key=lambda group: (rank.get(group.method, len(rank)), group.label))
        manifest = runs[0].manifest
        self.tasks = manifest.tasks
        self.safety_sets = manifest.safety_sets
        self.benign_sets = manifest.benign_sets
        self.harmful_ratio = manifest.harmful_ratio
        self.judges = list(dict.fromkeys(judge for run in runs for judge in run.judges))
        self._check_samples(runs)

    @property
    def runs(self) -> list[Run]:
        """Every run, method by method."""
        return [run for group in self.groups for run in group.runs]

    @cached_property
    def settings(self) -> dict[str, list[Group]]:
        """The methods with many settings: each method's default, then the others, by what they change."""
        found: dict[str, list[Group]] = {}
        for default in self.groups:
            others = [group for group in self.groups if group.method == default.method and group is not default]
            if default.is_default and len(others) >= MANY_SETTINGS:
                found[default.method] = [default, *sorted(others, key=lambda group: _setting_order(group, default))]
        return found

    @cached_property
    def main(self) -> list[Group]:
        """The rows of the main table: every method; of one with many settings, its default alone."""
        return [group for group in self.groups if group.is_default or group.method not in self.settings]

    @cached_property
    def shown(self) -> list[Group]:
        """What a figure with one panel a method shows: all that have stages, where they are few.

        Of many, the reference and hpa, then in turn the method with the highest AP and the one with the lowest MASR.
        """
        # A method with one model, such as zero_shot, has no curve; alone, it still gets its points.
        tested = [group for group in self.main if any(run.stages for run in group.runs)]
        tested = [group for group in tested if group.last] or tested
        if len(tested) <= SHOWN:
            return tested
        accurate, safe = (self.ranked(series, tested) for series in self.plane)
        chosen = [group for group in tested if group in self.references]
        chosen += [group for pair in zip_longest(accurate, safe) for group in pair if group]
        kept = list(dict.fromkeys([*chosen, *tested]))[:SHOWN]
        return [group for group in tested if group in kept]

    @property
    def plane(self) -> tuple[Series, Series]:
        """Accuracy and safety in one number each: AP, and MASR by the first judge."""
        judge = self.judges[0] if self.judges else ""
        return Series(ALL, "task", "", "ap"), Series(ALL, "safety", judge, "masr")

    def ranked(self, series: Series, among: Sequence[Group]) -> list[Group]:
        """Return methods from best to worst by a final number; those without it and `REFERENCES` are left out."""
        sign = -1 if METRICS[series.metric].better == "higher" else 1
        values = [(group, group.final(series)) for group in among if group.method not in REFERENCES]
        found = [(sign * cell.value, group) for group, cell in values if isinstance(cell, Cell)]
        return [group for _, group in sorted(found, key=lambda pair: pair[0])]

    def marks(self, series: Series, among: Sequence[Group]) -> dict[str, str]:
        """Return which methods are marked "best" and "second" in a column, by label.

        The best is marked where its paired differences to all that rank below it exclude 0; the second where the best
        is marked and the same holds for the second. So neither stands on a difference that the data do not show.
        """
        marks: dict[str, str] = {}
        ranked = self.ranked(series, among)
        for mark, group, below in zip(("best", "second"), ranked, (ranked[1:], ranked[2:]), strict=False):
            differences = (group.difference(other, series) for other in below)
            if not below or not all(isinstance(found, Cell) and found.excludes_zero for found in differences):
                break
            marks[group.label] = mark
        return marks

    @property
    def reference(self) -> Group:
        """The method that the others are compared with: seqft where present, else the first."""
        return self.references[0]

    @cached_property
    def references(self) -> list[Group]:
        """The methods that all are compared with: the reference, and hpa where present."""
        first = next((group for group in self.main if group.method == "seqft"), self.main[0])
        return [first, *(group for group in self.main if group.label == "hpa" and group is not first)]

    @cached_property
    def compliance_judges(self) -> list[str]:
        """The judges that tell complying from not refusing."""

        def having(metric: str) -> set[tuple[str, int]]:
            measured = ((run, key) for run in self.runs for key in run.measures if key.series.metric == metric)
            return {(key.series.judge, id(run)) for run, key in measured}

        # Of a run in which all is refused, any judge has the share; one that cannot tell lacks it elsewhere.
        able, unable = having("complied"), having("asr") - having("complied")
        tell = {judge for judge, _ in able} - {judge for judge, _ in unable}
        return [judge for judge in self.judges if judge in tell]

    @property
    def headline(self) -> list[Series]:
        """The columns of the main table; the first judge decides refusals, the first that can tell, compliance."""
        judge = self.judges[0] if self.judges else ""
        columns = [Series(ALL, "task", "", "ap"), Series(ALL, "task", "", "bwt")]
        if self.safety_sets:
            columns += [Series(ALL, "safety", judge, metric) for metric in ("masr", "dasr")]
            columns += [Series(ALL, "safety", able, "complied") for able in self.compliance_judges[:1]]
        return columns + ([Series(ALL, "benign", judge, "over_refusal")] if self.benign_sets else [])

    @property
    def continual(self) -> list[Series]:
        """The metrics of the accuracy matrix."""
        return [Series(ALL, "task", "", metric) for metric in CONTINUAL]

    def safety(self, judge: str) -> list[Series]:
        """The final safety numbers by one judge."""
        columns = [Series(name, "safety", judge, "asr") for name in self.safety_sets]
        if self.safety_sets:
            columns = [Series(ALL, "safety", judge, metric) for metric in ("masr", "dasr")] + columns
            columns += [share for share in self.split(ALL, judge) if share.metric != "neither"]
        return columns + ([Series(ALL, "benign", judge, "over_refusal")] if self.benign_sets else [])

    def split(self, name: str, judge: str) -> list[Series]:
        """What the responses to the requests of a set, or of all, are: safe, unsafe (and of which kind), incoherent."""
        kinds = ("complied", "neither") if judge in self.compliance_judges else ()
        shares = [Series(name, "safety", judge, metric) for metric in ("safe", "unsafe", *kinds)]
        return [*shares, Series(name, "safety", "", "incoherent")]

    def calibration(self, series: Series) -> Cell | str:
        """Return a judge's number on the sets' own reference answers, which all runs share."""
        key = Key(0, series)
        tested = [run for run in self.runs if run.stages]
        measured = next((run for run in tested if key in run.calibration), None)
        if measured:
            return combine(key, [measured.calibration[key]])
        return tested[0].uncalibrated(series) if tested else "missing: no stage finished"

    @cached_property
    def categories(self) -> dict[str, list[str]]:
        """The harm categories of each safety set that has some."""
        first = next((run.data[0].categories for run in self.runs if run.stages), {})
        return {name: sorted(set(first[name])) for name in self.safety_sets if name in first}

    @property
    def pairs(self) -> list[str]:
        """Each two judges, as `hpa_bench.results.agreement` names them."""
        return [VERSUS.join(pair) for pair in combinations(self.judges, 2)] if self.safety_sets else []

    def per_sample(self) -> list[Series]:
        """Everything measured on single sets, at every stage."""
        series = [Series(task, "task", "", "accuracy") for task in self.tasks]
        series += [Series(name, "safety", "", "incoherent") for name in self.safety_sets]
        series += [Series(name, "benign", "", "incoherent") for name in self.benign_sets]
        for judge in self.judges:
            shares = ("complied", "neither", "empty") if judge in self.compliance_judges else ("empty",)
            series += [
                Series(name, "safety", judge, metric) for name in self.safety_sets for metric in ("asr", *shares)
            ]
            series += [Series(name, "benign", judge, "over_refusal") for name in self.benign_sets]
        return series

    def _check_samples(self, runs: Sequence[Run]) -> None:
        tested = [run for run in runs if run.stages]
        for run in tested[1:]:
            first = tested[0]
            ours, theirs = first.manifest.data, run.manifest.data
            for name, ids in run.data[0].ids.items():
                if ids != first.data[0].ids[name] or ours.get(name) != theirs.get(name):
                    raise UserError(
                        f"{first.folder.path} and {run.folder.path} were tested on different samples of {name!r}"
                        f" ({len(first.data[0].ids[name])} and {len(ids)}): report them separately."
                    )


def conditions(runs: Sequence[Run]) -> list[Condition]:
    """Sort runs into conditions, titled by what sets them apart."""
    by_key: dict[str, list[Run]] = {}
    for run in runs:
        by_key.setdefault(json.dumps(_condition(run.manifest), sort_keys=True), []).append(run)
    keys = [json.loads(key) for key in by_key]
    # The condition of the main results first: clean data, and the most runs. Then harmful data, then other orders.
    first = max(keys, key=lambda key: (-key["harmful_ratio"], len(by_key[json.dumps(key, sort_keys=True)])))
    keys.sort(key=lambda key: (key != first, key["tasks"] != first["tasks"], key["harmful_ratio"]))
    varying = [
        name
        for name in dict.fromkeys(name for key in keys for name in key)
        if len({json.dumps(key.get(name)) for key in keys}) > 1
    ]
    usual = _parts(first, varying)
    found = []
    for key in keys:
        parts = _parts(key, varying)
        # A condition in few words: what sets it apart from the first, and the first by its data.
        short = [part for part in parts if part not in usual] or [p for p in parts[1:] if not p.startswith("order ")]
        found.append(Condition("; ".join(parts), "; ".join(short or parts), by_key[json.dumps(key, sort_keys=True)]))
    return found


def _condition(manifest: Manifest) -> dict[str, Any]:
    names = ("suite", "harmful_ratio", "tasks", "safety_sets", "benign_sets", "training", "suite_config")
    said = manifest.said()
    found = flat({name: said[name] for name in names if name in said})
    return {name: value for name, value in found.items() if name not in _IRRELEVANT}


def _parts(key: dict[str, Any], varying: Sequence[str]) -> list[str]:
    parts, short = [str(key["suite"])], short_names(key["tasks"])
    for name in varying:
        if name == "harmful_ratio":
            parts.append(f"{100 * key[name]:g}% harmful data" if key[name] else "original data")
        elif name == "tasks":
            parts.append("order " + ", ".join(short[task] for task in key[name]))
        elif name != "suite" and name.removeprefix("suite_config.") not in key:
            parts.append(f"{name.removeprefix('suite_config.')} {key.get(name)}")
    return parts


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names without the prefix that all share, such as `tiny_`."""
    prefixes = {name.split("_", 1)[0] + "_" for name in names if "_" in name}
    same = len(names) > 1 and len(prefixes) == 1 and all("_" in name for name in names)
    return {name: name.split("_", 1)[1] if same else name for name in names}


def _setting_order(group: Group, default: Group) -> list[tuple[int, int, float, str]]:
    order = list(group.config)
    return [
        (order.index(key), 0, float(value), "")
        if isinstance(value, int | float)
        else (order.index(key), 1, 0, str(value))
        for key, value in group.changed(default).items()
    ]
