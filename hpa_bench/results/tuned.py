"""What `hpa-bench tune` leaves: every method's trials under one budget, and the settings chosen of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpa_bench.config import BaseConfig, parse, with_settings
from hpa_bench.errors import UserError
from hpa_bench.files import write_json
from hpa_bench.results.published import PublishedRun
from hpa_bench.results.source import Source

FORMAT = 1
TUNED = "tuned.json"
"""The file of a report's folder, beside the published results."""
OBJECTIVE = {"ap": 1, "masr": -1, "over_refusal": -1}
"""What is weighed for what, by metric: percentage points after the last stage, all alike."""
OBJECTIVE_TEXT = (
    "AP - MASR - over-refusal after the last stage, in percentage points of equal weight, by the suite's first judge;"
    " what a suite has no sets for is left out"
)


class Trial(BaseConfig):
    """One run of a method with some settings."""

    settings: dict[str, Any]
    """What differs from the defaults; nothing in the first trial."""
    seed: int
    scores: dict[str, float]
    """By metric, percent: those of the objective that the suite has sets for, and BWT where the method has one."""
    objective: float | None
    """Higher is better; None where the run has not all of it."""
    run: str
    """Its folder, below the file's own."""
    missing: str = ""
    """Why there is no objective."""


class TunedMethod(BaseConfig):
    """One method's trials."""

    config: dict[str, Any]
    """Every hyper-parameter in the first trial: the defaults."""
    space: dict[str, str]
    """Where each hyper-parameter was searched, in words."""
    trials: list[Trial]
    chosen: dict[str, Any]
    """The settings of the trial with the highest objective, the earliest of equal ones; empty: the defaults."""
    git_commits: list[str]
    """The commits of the code that its trials were run by."""
    numerics: list[dict[str, Any]]
    """How the machines of its trials round."""

    def is_chosen(self, trial: Trial) -> bool:
        """Whether a trial has the settings that were chosen, by a score."""
        return trial.objective is not None and trial.settings == self.chosen

    def front(self) -> list[Trial]:
        """Return the trials that no other beats in AP or MASR without losing in the other, by AP."""
        found = [trial for trial in self.trials if {"ap", "masr"} <= trial.scores.keys()]
        kept = [
            one
            for one in found
            if not any(
                other.scores["ap"] >= one.scores["ap"]
                and other.scores["masr"] <= one.scores["masr"]
                and (other.scores["ap"], other.scores["masr"]) != (one.scores["ap"], one.scores["masr"])
                for other in found
            )
        ]
        return sorted(kept, key=lambda trial: trial.scores["ap"])


class Tuned(BaseConfig):
    """The file of a suite."""

    format: int
    suite: str
    suite_settings: dict[str, Any]
    """What was set of the suite beside the split."""
    suite_config: dict[str, Any]
    """Every value of the suite that makes a run."""
    split: str
    """The rows that trials were scored on."""
    objective: str
    """In words."""
    design: str
    """How settings were picked, in words."""
    trials: int
    """Of each method: the budget. A method with fewer has no more settings than these."""
    seeds: list[int]
    """Of each trial, the same for all methods; no report may use them."""
    methods: dict[str, TunedMethod]
    untuned: dict[str, str]
    """Methods that were not tuned, and why."""

    def write(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.model_dump(mode="json"))

    def beside(self, earlier: Tuned | None) -> Tuned:
        """Return the file with what an earlier one of the same budget has of other methods, too."""
        if earlier is None:
            return self
        methods, untuned = earlier.methods | self.methods, earlier.untuned | self.untuned
        return self.model_copy(update={"methods": methods, "untuned": untuned})

    def with_chosen(self, methods: Sequence[str]) -> list[str]:
        """Return methods, as the command line names them, each followed by its tuned form where that differs."""
        found = []
        for name in methods:
            found.append(name)
            if name in self.methods and (chosen := self.methods[name].chosen):
                found.append(with_settings(name, chosen))
        return list(dict.fromkeys(found))


def read_tuned(path: Path) -> Tuned:
    """Read the file that `hpa-bench tune` wrote.

    Raises:
        UserError: there is none, or it is another format or another program's.
    """
    remedy = "expected the file that hpa-bench tune wrote"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): {remedy}.") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{path} is no file of tuned settings of format {FORMAT}: {remedy}, by this version.")
    return parse(Tuned, values, f"in {path}")


def tuned_beside(runs: Iterable[Source]) -> list[Tuned]:
    """Return the files of tuned settings that lie beside published runs.

    Raises:
        UserError: one cannot be read (`read_tuned`).
    """
    folders = dict.fromkeys(run.path.absolute().parents[2] for run in runs if isinstance(run, PublishedRun))
    return [read_tuned(file) for folder in folders if (file := folder / TUNED).is_file()]


def objective(scores: dict[str, float]) -> float:
    """Return what is maximised, from the metrics that there are."""
    return round(sum(weight * scores[name] for name, weight in OBJECTIVE.items() if name in scores), 4)
