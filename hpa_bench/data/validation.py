"""Data, checked to the end: what is there, what is missing, what is wrong, and what leaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lm_eval.api.task import Task

from hpa_bench.data.leakage import Leak, find_leaks
from hpa_bench.data.samples import Kind, Sample
from hpa_bench.data.tasks import Split, TaskLoader, check_scoring, inspect_task
from hpa_bench.errors import MissingImage, UserError


@dataclass
class SetReport:
    """What was found of one set."""

    name: str
    kind: Kind
    where_to_get: str = ""
    error: str = ""
    """Why there is nothing to read; else ""."""
    scoring: str = ""
    """Why it cannot be scored here; else ""."""
    samples: dict[Split, list[Sample]] = field(default_factory=dict)
    """The good rows of each split that is used."""
    missing: list[str] = field(default_factory=list)
    """One sentence for each row whose image is missing."""
    bad: list[str] = field(default_factory=list)
    """One sentence for each row that is wrong otherwise."""
    suffixes: tuple[str, ...] = ()
    """What its test questions may end with."""

    @property
    def good(self) -> bool:
        """Whether a run can use it."""
        return not (self.error or self.scoring or self.missing or self.bad)


def inspect_sets(sets: Mapping[str, Kind], loader: TaskLoader, split: Split, deep: bool = False) -> list[SetReport]:
    """Read every named set, every row of it, and go on past what is wrong.

    Args:
        sets: what each set is used for, by name.
        loader: finds the sets' lm-eval tasks.
        split: what evaluation reads of them.
        deep: decode every image, as only that finds all broken ones.

    Returns:
        One report a set, in their order.
    """
    return [_inspect(loader, SetReport(name, kind), split, deep) for name, kind in sets.items()]


def leaks_of(reports: Iterable[SetReport]) -> list[Leak]:
    """Return which test samples stand in training, calibration or alignment data (see `find_leaks`)."""
    reports = list(reports)
    sources = {report.name: report.samples["training"] for report in reports if "training" in report.samples}
    tests = {
        report.name: samples
        for report in reports
        if report.kind != "source"
        for split, samples in report.samples.items()
        if split != "training"
    }
    return find_leaks(tests, sources, {report.name: report.suffixes for report in reports})


def _inspect(loader: TaskLoader, report: SetReport, evaluated: Split, deep: bool) -> SetReport:
    splits: list[Split] = ["training"] if report.kind in ("task", "source") else []
    splits += [evaluated] if report.kind != "source" else []
    try:
        task = loader.load(report.name)
    except UserError as error:
        report.error = str(error)
        return report
    report.where_to_get = getattr(task.dataset, "where_to_get", "")
    report.suffixes = _suffixes(task)
    for split in splits:
        report.samples[split] = []
        for found in inspect_task(task, split):
            found = _decoded(found) if deep else found
            if isinstance(found, Sample):
                report.samples[split].append(found)
            else:
                (report.missing if isinstance(found, MissingImage) else report.bad).append(str(found))
    if report.kind != "source":
        try:
            check_scoring(task)
        except UserError as error:
            report.scoring = str(error)
    return report


def _decoded(found: Sample | UserError) -> Sample | UserError:
    try:
        if isinstance(found, Sample):
            list(found.images)
    except UserError as error:
        return error
    return found


def _suffixes(task: Task) -> tuple[str, ...]:
    suffix = (task.config.dataset_kwargs or {}).get("suffix", "")
    return tuple(suffix.values()) if isinstance(suffix, Mapping) else (suffix,)
