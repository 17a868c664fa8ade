"""Which runs are comparable: methods in one condition, that is one suite, order, data and training recipe."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, wraps
from typing import Any, TypeVar, TypeVarTuple, cast
from weakref import WeakKeyDictionary

import numpy as np

from hpa_bench.errors import UserError
from hpa_bench.names import short_names
from hpa_bench.report.groups import REFERENCES, Group
from hpa_bench.report.noise import floors
from hpa_bench.report.settings import arrange
from hpa_bench.results.absence import uncalibrated
from hpa_bench.results.manifest import NO_PART_OF_TRAINING, Manifest
from hpa_bench.results.measures import Cell, Key, Series, combine
from hpa_bench.results.published import portable
from hpa_bench.results.runs import Run, alike, flat, settle
from hpa_bench.results.tuned import Tuned, tuned_beside

_FIRST = (*REFERENCES, "seqft", "hpa")
# Settings that change how fast a run is, or who judges it, but not what is measured.
_IRRELEVANT = {
    "suite_config.name",
    "suite_config.description",
    "suite_config.judges",
    "suite_config.include_paths",
    "suite_config.cpu_threads",
    "suite_config.evaluation.engine",
    "suite_config.evaluation.batch_size",
    # A manifest has the recipe twice: of the suite, which older ones wrote whole, and by itself.
    *(f"{part}.{key}" for part in ("suite_config.training", "training") for key in NO_PART_OF_TRAINING),
}


_NOT_TUNED_FOR = {"suite_config.evaluation.split", "suite_config.numerics"}
"""What may differ between trials and the runs that take their settings: the rows, and how a machine rounds."""
_MODEL = "suite_config.model"
CHECKPOINT = "model_digest"
_NUMERICS = "numerics."

Given = TypeVarTuple("Given")
Found = TypeVar("Found")


class Condition:
    """What makes runs comparable: suite, order, data and training recipe."""

    def __init__(self, title: str, short: str, runs: Sequence[Run], tuned: Sequence[Tuned] = ()) -> None:
        self.title = title
        self.short = short
        by_label: dict[str, list[Run]] = {}
        averaged = _averaged(title, runs)
        for run in averaged:
            label = f"{run.label}, noise {run.noise}" if run.noise else run.label
            by_label.setdefault(label, []).append(run)
        groups = [Group(label, members) for label, members in by_label.items()]
        rank = {name: index for index, name in enumerate(_FIRST)}
        self.groups = sorted(groups, key=lambda group: (rank.get(group.method, len(rank)), group.label))
        self.noise = floors(runs) if len(averaged) < len(runs) else []
        """The noise floor of each method that has noise runs; these are in no group."""
        manifest = runs[0].manifest
        self.tuned = next((one for one in tuned if not misfit(one, manifest.suite, manifest.suite_config)), None)
        """What `hpa-bench tune` left of these settings, if anything."""
        rows = arrange(self.groups, self.tuned)
        self.main, self.settings, self.designed = rows.main, rows.settings, rows.designed
        self.tasks = manifest.tasks
        self.safety_sets = manifest.safety_sets
        self.benign_sets = manifest.benign_sets
        self.harmful_ratio = manifest.harmful_ratio
        self.judges = list(dict.fromkeys(judge for run in runs for judge in run.judges))
        self._check_samples(runs)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What its runs have in common, and what sets it apart from others, under dotted names."""
        return condition_key(self.begun[0].manifest)

    @property
    def runs(self) -> list[Run]:
        """Every run that a number is a mean over, method by method."""
        return [run for group in self.groups for run in group.runs]

    @property
    def all_runs(self) -> list[Run]:
        """Every run, noise runs last."""
        return [*self.runs, *(run for floor in self.noise for run in floor.runs)]

    @property
    def begun(self) -> list[Run]:
        """Every run that came so far as to say what it is made by; where none did, all."""
        return [run for run in self.all_runs if not run.manifest.planned] or self.all_runs

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
        can_say = {
            judge: [run.vocabularies[judge] for run in self.runs if judge in run.vocabularies] for judge in self.judges
        }
        measured = {key.series.judge for run in self.runs for key in run.measures if key.series.metric == "complied"}
        # Of an older run, what a stranger's judge can say is guessed: one that once cannot tell, cannot.
        return [judge for judge, said in can_say.items() if judge in measured and all(v.tells_compliance for v in said)]

    def calibration(self, series: Series) -> Cell | str:
        """Return a judge's number on the sets' own reference answers, which all runs share."""
        key = Key(0, series)
        tested = [run for run in self.runs if run.stages]
        measured = next((run for run in tested if key in run.calibration), None)
        if measured:
            return combine(key, [measured.calibration[key]])
        return uncalibrated(tested[0], series) if tested else "missing: no stage finished"

    @cached_property
    def categories(self) -> dict[str, list[str]]:
        """The harm categories of each safety set that has some."""
        first = next((run.data[0].categories for run in self.runs if run.stages), {})
        return {name: sorted(set(first[name])) for name in self.safety_sets if name in first}

    def _check_samples(self, runs: Sequence[Run]) -> None:
        tested = [run for run in runs if run.stages]
        if not tested:
            return
        first, ids_of, clusters_of = tested[0], tested[0].data[0].ids, tested[0].data[0].clusters
        for run in tested:
            for name, ids in run.data[0].ids.items():
                ours, theirs = (one.manifest.data.get(name) for one in (first, run))
                if ids != ids_of[name] or ours != theirs:
                    raise UserError(
                        f"{first.path} and {run.path} were tested on different samples of {name!r}"
                        f" ({len(ids_of[name])} and {len(ids)}): report them separately."
                    )
                if not np.array_equal(run.data[0].clusters.get(name, ()), clusters_of.get(name, ())):
                    raise UserError(
                        f"{first.path} and {run.path} say differently which samples of {name!r} belong together"
                        " (`cluster`, docs/metrics.md): report them separately, or make both with one version."
                    )
            settle(run)


def _averaged(title: str, runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs that are no noise runs; a noise run that is alone stands for itself."""
    found = [run for run in runs if not run.noise]
    if not found and len(runs) > 1:
        raise UserError(
            f"{title}: these {len(runs)} runs are noise runs, which no mean is over: report them beside the run without"
            " noise that they repeat."
        )
    return found or runs


def conditions(runs: Sequence[Run] | Sequence[Condition], tuned: Tuned | None = None) -> list[Condition]:
    """Sort runs into conditions, titled by what sets them apart; those that are sorted already stay as they are.

    Args:
        runs: finished or not; or conditions.
        tuned: what `hpa-bench tune` left; what it chose stands apart (`arrange`). By default what lies beside the
            published ones of the runs.

    Raises:
        UserError: the tuned settings are of other runs than all of these.
    """
    if already := [each for each in runs if isinstance(each, Condition)]:
        return already
    listed = cast("Sequence[Run]", runs)
    files = [tuned] if tuned is not None else tuned_beside(run.source for run in listed)
    parts = sorted_runs(listed)
    if tuned is not None:
        firsts = [members[0].manifest for _, _, members in parts]
        misfits = [misfit(tuned, manifest.suite, manifest.suite_config) for manifest in firsts]
        if misfits and all(misfits):
            raise UserError(misfits[0])
    return [Condition(*part, files) for part in parts]


def misfit(tuned: Tuned, suite: str, suite_config: Mapping[str, Any]) -> str:
    """Return in a sentence why tuned settings are none of a suite's runs; "" where they are.

    Args:
        tuned: the settings.
        suite: the suite's name.
        suite_config: its values, as in a manifest.
    """
    trials, runs = (_tuned_for(*about) for about in ((tuned.suite, tuned.suite_config), (suite, suite_config)))
    name = next((name for name in {**trials, **runs} if trials.get(name) != runs.get(name)), "")
    shown = name.removeprefix("suite_config.")
    return name and (
        f"The settings were tuned for other runs than these ({shown} is {trials.get(name)!r} there and"
        f" {runs.get(name)!r} here): give the file of trials with the same, or none."
    )


def _tuned_for(suite: str, suite_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same in trials and runs, without where things lie on one machine."""
    found = flat({"suite": suite, "suite_config": {"version": 1} | portable(suite_config)})
    return {name: value for name, value in found.items() if name not in _IRRELEVANT | _NOT_TUNED_FOR}


def once(of: Callable[[Condition, *Given], Found]) -> Callable[[Condition, *Given], Found]:
    """Find something of a condition once: page, tables, figures and sentences ask for the same.

    Args:
        of: takes the condition and what else it is found by, which is told apart by identity. What it returns is
            shared, so nobody may change it.
    """
    known: WeakKeyDictionary[Condition, list[tuple[tuple[Any, ...], Found]]] = WeakKeyDictionary()

    @wraps(of)
    def found(condition: Condition, *given: *Given) -> Found:
        listed = known.setdefault(condition, [])
        for others, value in listed:
            if len(others) == len(given) and all(map(operator.is_, others, given)):
                return value
        value = of(condition, *given)
        listed.append((given, value))
        return value

    return found


def sorted_runs(runs: Sequence[Run]) -> list[tuple[str, str, list[Run]]]:
    """Sort runs into those of each condition, with its title, long and short, by their manifests alone."""
    if not runs:
        return []
    parts = [(condition_key(same[0].manifest), same) for same in _comparable(runs)]
    # The condition of the main results first: clean data, and the most runs. Then harmful data, then other orders.
    first, _ = max(parts, key=lambda part: (-part[0]["harmful_ratio"], sum(not run.noise for run in part[1])))
    parts.sort(key=lambda part: (part[0] != first, part[0]["tasks"] != first["tasks"], part[0]["harmful_ratio"]))
    names = dict.fromkeys(name for key, _ in parts for name in key)
    varying = [name for name in names if any(key.get(name) != first.get(name) for key, _ in parts)]
    digests = {(key.get(_MODEL), key.get(CHECKPOINT)) for key, _ in parts}
    if len({model for model, _ in digests}) == len(digests):
        varying = [name for name in varying if name != CHECKPOINT]  # The folder's name says it, in words.
    usual = _parts(first, varying)
    found = []
    for key, members in parts:
        words = _parts(key, varying)
        # A condition in few words: what sets it apart from the first, and the first by its data.
        short = [word for word in words if word not in usual] or [w for w in words[1:] if not w.startswith("order ")]
        found.append(("; ".join(words), "; ".join(short or words), members))
    return found


def _comparable(runs: Sequence[Run]) -> list[list[Run]]:
    """Sort runs into those of one key; one that is planned only stands in the first part that it may belong to."""
    found = alike((run for run in runs if not run.manifest.planned), lambda run: condition_key(run.manifest))
    for run in (run for run in runs if run.manifest.planned):
        key = known_key(run.manifest, run.manifest)
        part = next((part for part in found if known_key(part[0].manifest, run.manifest) == key), None)
        if part is None:
            found.append([run])
        else:
            part.append(run)
    return found


def condition_key(manifest: Manifest) -> dict[str, Any]:
    """Return what must be equal for runs to be comparable, under dotted names."""
    names = ("suite", "harmful_ratio", "tasks", "safety_sets", "benign_sets", "training", "suite_config")
    said = manifest.said()
    found = (
        {"suite_config.version": 1}
        | flat({name: said[name] for name in names if name in said})
        | flat({"numerics": manifest.numerics.said()})
    )
    if manifest.model_digest:
        found[CHECKPOINT] = manifest.model_digest
    return {name: value for name, value in found.items() if name not in _IRRELEVANT}


def known_key(manifest: Manifest, by: Manifest) -> dict[str, Any]:
    """Return a run's `condition_key` without what another run, which is planned only, does not know yet."""
    unknown = ("" if by.numerics.said() else _NUMERICS, "" if by.model_digest else CHECKPOINT)
    key = condition_key(manifest)
    return {name: value for name, value in key.items() if not name.startswith(tuple(filter(None, unknown)))}


def _parts(key: dict[str, Any], varying: Sequence[str]) -> list[str]:
    parts, short = [f"{key['suite']} version {key['suite_config.version']}"], short_names(key["tasks"])
    for name in varying:
        if name == "harmful_ratio":
            parts.append(f"{100 * key[name]:g}% harmful data" if key[name] else "original data")
        elif name == "tasks":
            parts.append("order " + ", ".join(short[task] for task in key[name]))
        elif name == CHECKPOINT:
            parts.append(f"checkpoint {str(key.get(name))[:8]}")
        elif name not in ("suite", "suite_config.version"):
            plain = name.removeprefix("suite_config.").removeprefix("numerics.").removeprefix("variables.")
            if plain == name or plain not in key:  # What stands twice in a manifest is told once.
                parts.append(f"{plain} {key.get(name)}")
    return parts
