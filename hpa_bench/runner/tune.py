"""Equal budgets: the trials of every method, planned beforehand, and what they leave in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpa_bench.config import parse_settings, split_settings, with_settings
from hpa_bench.errors import UserError
from hpa_bench.method import methods
from hpa_bench.results.absence import absence
from hpa_bench.results.measures import ALL, Key, Series
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import Run
from hpa_bench.results.tuned import (
    FORMAT,
    OBJECTIVE_TEXT,
    Trial,
    Tuned,
    TunedMethod,
    objective,
    read_tuned,
)
from hpa_bench.runner.design import DESIGN, trial_seeds, trial_settings
from hpa_bench.spec import RunOptions, RunSpec, make_spec
from hpa_bench.tunable import search_space

SPLIT = "validation"
SPLIT_KEY = "evaluation.split"
HEAD = ("suite_config", "trials", "seeds", "objective", "design", "split")
"""What trials of one file have in common."""


@dataclass(frozen=True)
class PlannedTrial:
    """One run that is wanted."""

    settings: dict[str, Any]
    """What differs from the method's defaults."""
    spec: RunSpec
    folder: Path


@dataclass(frozen=True)
class Plan:
    """The trials of a suite's methods."""

    out: Path
    """The folder of everything."""
    budget: int
    """Trials of each method."""
    trials: dict[str, list[PlannedTrial]]
    """By method, as the command line names it."""
    untuned: dict[str, str]
    """The methods that have none, and why."""
    suite_settings: dict[str, Any]

    @property
    def wanted(self) -> dict[Path, RunSpec]:
        """Every run by its folder, first the first trial of each method, so that a stopped budget stays equal."""
        listed = [(number, trial) for trials in self.trials.values() for number, trial in enumerate(trials)]
        return {trial.folder: trial.spec for _, trial in sorted(listed, key=lambda pair: pair[0])}

    @property
    def file(self) -> Path:
        """The file of the chosen settings."""
        spec = next(iter(self.trials.values()))[0].spec
        return self.out / f"{spec.suite.name}.json"

    def head(self) -> Tuned:
        """Return the file without its trials."""
        spec = next(iter(self.trials.values()))[0].spec
        return Tuned(
            format=FORMAT,
            suite=spec.suite.name,
            suite_settings=self.suite_settings,
            suite_config=spec.identity()["suite_config"],
            split=SPLIT,
            objective=OBJECTIVE_TEXT,
            design=DESIGN,
            trials=self.budget,
            seeds=trial_seeds(self.budget),
            methods={},
            untuned=self.untuned,
        )

    def earlier(self) -> Tuned | None:
        """Return what an earlier call wrote, to which this one adds its methods; None where there is nothing.

        Raises:
            UserError: it has another budget, suite or objective.
        """
        if not self.file.exists():
            return None
        found, head = read_tuned(self.file), self.head()
        for key in HEAD:
            if getattr(found, key) != getattr(head, key):
                raise UserError(f"{self.file} has other {key} than this call: use the same, or another --out.")
        return found


def plan(common: RunOptions, names: Sequence[str], trials: int, out: Path) -> Plan:
    """Plan the trials of methods; nothing depends on what an earlier trial gave.

    Args:
        common: the suite and what is set of it.
        names: methods, settings of their own after colons.
        trials: of each method.
        out: where runs and the file go.

    Raises:
        UserError: no method can be tuned, or a setting does not belong here.
    """
    suite_settings = parse_settings(list(common.settings))
    if SPLIT_KEY in suite_settings:
        raise UserError(f"--set {SPLIT_KEY} cannot be chosen here: tune scores on {SPLIT} rows alone; leave it out.")
    planned: dict[str, list[PlannedTrial]] = {}
    untuned: dict[str, str] = {}
    seeds = trial_seeds(trials)
    common = replace(common, settings=[*common.settings, f"{SPLIT_KEY}={SPLIT}"])
    for text in names:
        name, own = split_settings(text)
        method = methods.get(name)
        if mine := [key for key in suite_settings if key in method.Config.model_fields]:
            raise UserError(
                f"--set {mine[0]} is of method {name!r}, and --set of tune is for the suite: give it after the method's"
                f" name, as in {name}:{mine[0]}=..."
            )
        if not search_space(method.Config):
            untuned[text] = "it declares no strength to tune"
            continue
        planned[text] = []
        for settings, seed in zip(trial_settings(method, own, trials), seeds, strict=False):
            spec = make_spec(replace(common, method=with_settings(text, settings), seed=seed), needs=False)
            planned[text].append(PlannedTrial(settings, spec, spec.default_folder(out / "trials")))
    if not planned:
        raise UserError(f"None of {', '.join(names)} can be tuned: none declares a strength (docs/tuning.md).")
    return Plan(out, trials, planned, untuned, suite_settings)


def written(plan: Plan, runs: Mapping[Path, Run]) -> Tuned:
    """Return the file with the trials of this plan, beside those of methods that only an earlier call had.

    Args:
        plan: what was wanted.
        runs: what came of it, by folder.
    """
    found = {text: _method(text, plan, runs) for text in plan.trials}
    return plan.head().model_copy(update={"methods": found}).beside(plan.earlier())


def _method(text: str, plan: Plan, runs: Mapping[Path, Run]) -> TunedMethod:
    planned = plan.trials[text]
    trials = [_trial(one, runs[one.folder], plan.out) for one in planned]
    scored = [trial for trial in trials if trial.objective is not None]
    best = max(scored, key=lambda trial: trial.objective or 0.0, default=None)
    manifests = [runs[one.folder].manifest for one in planned]
    numerics: list[dict[str, Any]] = []
    for said in (manifest.numerics.said() for manifest in manifests):
        if said and said not in numerics:
            numerics.append(said)
    space = search_space(planned[0].spec.method.Config)
    return TunedMethod(
        config=planned[0].spec.config.model_dump(mode="json"),
        space={name: str(mark) for name, mark in space.items()},
        trials=trials,
        chosen=best.settings if best else {},
        git_commits=sorted({manifest.git_commit for manifest in manifests if manifest.git_commit}),
        numerics=numerics,
    )


def _trial(planned: PlannedTrial, run: Run, out: Path) -> Trial:
    suite = planned.spec.suite
    judge = run.judges[0] if run.judges else ""
    columns = {"ap": Series(ALL, "task", "", "ap")}
    if suite.safety_sets:
        columns["masr"] = Series(ALL, "safety", judge, "masr")
    if suite.benign_sets:
        columns["over_refusal"] = Series(ALL, "benign", judge, "over_refusal")
    keys = {name: Key(run.last, series) for name, series in columns.items()}
    lacking = [key for key in keys.values() if run.measure(key) is None]
    keys["bwt"] = Key(run.last, Series(ALL, "task", "", "bwt"))
    measured = {name: run.measure(key) for name, key in keys.items()}
    scores = {name: round(measure.value, 4) + 0.0 for name, measure in measured.items() if measure is not None}
    return Trial(
        settings=planned.settings,
        seed=planned.spec.seed,
        scores=scores,
        objective=None if lacking else objective(scores),
        run=planned.folder.relative_to(out).as_posix(),
        missing=absence(run, lacking[0]) if lacking else "",
    )


def read_trials(plan: Plan) -> dict[Path, Run]:
    """Return what came of every planned run, by folder."""
    return {folder: Run(RunFolder(folder)) for folder in plan.wanted}
