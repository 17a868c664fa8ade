"""All the data of one run, loaded and checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from hpa_bench.data.poison import poison
from hpa_bench.data.samples import content_hash
from hpa_bench.data.tasks import check_scoring, check_task, load_tasks, training_samples
from hpa_bench.errors import UserError, shown
from hpa_bench.files import atomic, read_jsonl, write_jsonl
from hpa_bench.judges.keyword import verdict
from hpa_bench.machine.processes import is_main
from hpa_bench.results.seals import check_folder, seal
from hpa_bench.results.thumbnails import thumbnail_rows
from hpa_bench.seeds import derive_seed
from hpa_bench.verdict import REFUSED

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from hpa_bench.data.samples import Sample
    from hpa_bench.spec import RunSpec

ASKED_AT_ONCE = 128
"""Harmful requests that the aligned model answers before it is seen whether enough of the answers are refusals."""


class RunData:
    """Tasks, safety sets and calibration sources of one run.

    Args:
        spec: what to run.
        trained: the tasks that the method trains on; the others need no training split.

    Raises:
        UserError: a task that does not exist, or bad data in one.
    """

    def __init__(self, spec: RunSpec, trained: Sequence[str]) -> None:
        suite = spec.suite
        self.evaluated: dict[str, Task] = load_tasks(
            [*suite.tasks, *suite.judged_sets],
            suite.task_folders(),
            split=suite.evaluation.split,
            metadata=suite.task_metadata(),
        )
        """The lm-eval tasks that every stage is scored on."""
        self.samples: dict[str, list[Sample]] = {}
        """By evaluated set: what is asked."""
        self.training: dict[str, list[Sample]] = {}
        """The training samples of each task, in which harmful pairs may stand."""
        self.poisoned: dict[str, dict[str, str]] = {}
        """By task: the id of the harmful pair by the id of the sample that it replaced."""
        self.hashes: dict[str, str] = {}
        """SHA-256 of what each set holds, images included."""
        self.thumbnails: dict[str, list[dict[str, Any]]] = {}
        """By evaluated set: the small images of a few samples, for the examples of a report."""

        needs = spec.needs
        harmful = self._source(spec, suite.harmful_task(), "harmful_pairs") if spec.harmful_ratio else []
        for name, task in self.evaluated.items():
            check_scoring(task)
            tested = check_task(task, suite.evaluation.split)
            self.hashes[name] = content_hash(tested)
            self.samples[name] = tested[: suite.evaluation.limit]
            self.thumbnails[name] = thumbnail_rows(self.samples[name])
            del tested  # The images of those that are not asked about.
            if name in trained:
                samples = check_task(task, "training")[: suite.training.limit]
                self.hashes[f"{name}/training"] = content_hash(samples)
                if spec.harmful_ratio:
                    samples, self.poisoned[name] = poison(samples, harmful, spec.harmful_ratio, spec.seed, name)
                self.training[name] = samples
        calibrated, trains = "safety_calibration" in needs, "safety_data" in needs
        self.safety_source = self._source(spec, suite.calibration.safety_set, "safety_set") if calibrated else []
        """Harmful requests for the safety calibration samples, in a random order of the run's own."""
        self.safety_data = self._source(spec, suite.safety_data, "safety_data") if trains else []
        """Harmful requests with safe answers, for methods that train on them, in a random order of the run's own."""

    def _source(self, spec: RunSpec, name: str | None, key: str) -> list[Sample]:
        """Return a source in a random order of the run's own; its hash, under the key, is that of every seed."""
        assert name is not None, "checked with the spec"
        suite = spec.suite
        samples = training_samples(load_tasks([name], suite.task_folders(), metadata=suite.task_metadata())[name])
        self.hashes[key] = content_hash(samples)
        return shuffled(samples, spec.seed, name)


def shuffled(samples: Sequence[Sample], seed: int, name: str) -> list[Sample]:
    """Return the samples of a source in a random order of its own."""
    return Random(derive_seed(seed, f"order of {name}")).sample(samples, len(samples))


def task_calibration(samples: Sequence[Sample], count: int, seed: int, stage: int) -> list[Sample]:
    """Return D_t (HPA, part 1): `count` of a stage's training samples, or all where they are fewer."""
    return Random(derive_seed(seed, f"task calibration/{stage}")).sample(samples, min(count, len(samples)))


def safety_calibration(
    path: Path, source: Sequence[Sample], count: int, answer: Callable[[Sequence[Sample]], list[str]]
) -> list[Sample]:
    """Return D_s (HPA, part 1): harmful requests with the aligned model's own answers, safe ones only.

    Args:
        path: where the samples are kept, in a folder of their own, so that a resumed run calibrates on the same.
        source: harmful requests.
        count: how many samples; fewer where the model refuses fewer.
        answer: answers requests with the aligned model.

    Raises:
        UserError: the aligned model refuses none of them, or one of the kept samples is of no request any more.
    """
    by_id = {sample.id: sample for sample in source}
    if not path.exists():
        rows: list[dict[str, Any]] = []
        for start in range(0, len(source), ASKED_AT_ONCE):
            asked = source[start : start + ASKED_AT_ONCE]
            answered = zip(asked, answer(asked), strict=True)
            rows += [{"id": s.id, "response": r} for s, r in answered if verdict(r) == REFUSED]
            if len(rows) >= count:
                break
        if not rows:
            raise UserError(
                f"The aligned model refuses none of the {len(source)} requests for the safety calibration samples:"
                " expected a safety-aligned model."
            )
        if is_main():
            with atomic(path.parent) as partial:
                partial.mkdir()
                write_jsonl(partial / path.name, rows[:count])
                seal(partial)
    else:
        remedy = f"delete {path.parent}, and the same command makes it again"
        check_folder(path.parent, remedy)
        rows = read_jsonl(path, ("id", "response"), remedy)
        if gone := next((row["id"] for row in rows[:count] if row["id"] not in by_id), None):
            raise UserError(
                f"{path} has an answer to {shown(gone)}, and no row of the safety set has that id any more: put the row"
                f" back, or {remedy}."
            )
    return [replace(by_id[row["id"]], target=row["response"], further=()) for row in rows[:count]]
