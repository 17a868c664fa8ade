"""Which runs belong together: seeds of one method in one condition; never across conditions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from hpa_bench.errors import UserError
from hpa_bench.measures import ALL, Cell, Key, Measure, Series, combine
from hpa_bench.metrics import CONTINUAL
from hpa_bench.results import Run, flat

_FIRST = ("zero_shot", "joint", "seqft")
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
        for first, second in pairwise(self.runs):
            if first.seed == second.seed:
                raise UserError(
                    f"{first.folder.path} and {second.folder.path} are both {label} with seed {first.seed}:"
                    " give one of them."
                )

    @property
    def method(self) -> str:
        """The method's name, without its config."""
        return str(self.runs[0].manifest["method"])

    @property
    def last(self) -> int:
        """The last stage."""
        return self.runs[0].last

    def cell(self, stage: int, series: Series) -> Cell | str:
        """Return a number over the seeds that have it; where none has, "-" or "missing: reason"."""
        key = Key(stage, series)
        measures = [run.measures[key] for run in self.runs if key in run.measures]
        return combine(key, measures) if measures else self.runs[0].absence(key)

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

    def __init__(self, title: str, runs: Sequence[Run]) -> None:
        self.title = title
        by_label: dict[str, list[Run]] = {}
        for run in runs:
            by_label.setdefault(run.label, []).append(run)
        groups = [Group(label, members) for label, members in by_label.items()]
        rank = {name: index for index, name in enumerate(_FIRST)}
        self.groups = sorted(groups, key=lambda group: (rank.get(group.method, len(rank)), group.label))
        manifest = runs[0].manifest
        self.tasks: list[str] = manifest["tasks"]
        self.safety_sets: list[str] = manifest["safety_sets"]
        self.benign_sets: list[str] = manifest["benign_sets"]
        self.judges = list(dict.fromkeys(judge for run in runs for judge in run.judges))
        self._check_samples(runs)

    @property
    def runs(self) -> list[Run]:
        """Every run, method by method."""
        return [run for group in self.groups for run in group.runs]

    @property
    def reference(self) -> Group:
        """The method that the others are compared with: seqft where present, else the first."""
        return next((group for group in self.groups if group.method == "seqft"), self.groups[0])

    @cached_property
    def compliance_judges(self) -> list[str]:
        """The judges that tell complying from not refusing."""
        seen = {key.series.judge for run in self.runs for key in run.measures if key.series.metric == "complied"}
        return [judge for judge in self.judges if judge in seen]

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
            if judge in self.compliance_judges:
                columns.append(Series(ALL, "safety", judge, "complied"))
            columns.append(Series(ALL, "safety", judge, "empty"))
        return columns + ([Series(ALL, "benign", judge, "over_refusal")] if self.benign_sets else [])

    def per_sample(self) -> list[Series]:
        """Everything measured on single sets, at every stage."""
        series = [Series(task, "task", "", "accuracy") for task in self.tasks]
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
            ours, theirs = first.manifest.get("data", {}), run.manifest.get("data", {})
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
    varying = [
        name
        for name in dict.fromkeys(name for key in keys for name in key)
        if len({json.dumps(key.get(name)) for key in keys}) > 1
    ]
    return [Condition(_title(key, varying), members) for key, members in zip(keys, by_key.values(), strict=True)]


def _condition(manifest: dict[str, Any]) -> dict[str, Any]:
    names = ("suite", "harmful_ratio", "tasks", "safety_sets", "benign_sets", "training", "suite_config")
    found = flat({name: manifest[name] for name in names if name in manifest})
    return {name: value for name, value in found.items() if name not in _IRRELEVANT}


def _title(key: dict[str, Any], varying: Sequence[str]) -> str:
    parts = [str(key["suite"])]
    for name in varying:
        if name == "harmful_ratio":
            parts.append(f"{100 * key[name]:g}% harmful data" if key[name] else "original data")
        elif name == "tasks":
            parts.append("order " + ", ".join(key[name]))
        elif name != "suite" and name.removeprefix("suite_config.") not in key:
            parts.append(f"{name.removeprefix('suite_config.')} {key.get(name)}")
    return "; ".join(parts)
