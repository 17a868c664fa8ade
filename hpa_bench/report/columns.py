"""Which numbers of a condition stand in which table."""

from __future__ import annotations

from itertools import combinations

from hpa_bench.metrics import UPDATE, continual_names
from hpa_bench.report.conditions import Condition, once
from hpa_bench.results.agreement import VERSUS
from hpa_bench.results.measures import ALL, Series
from hpa_bench.results.update import update_series


def plane(condition: Condition) -> tuple[Series, Series]:
    """Accuracy and safety in one number each: AP, and MASR by the first judge."""
    judge = condition.judges[0] if condition.judges else ""
    return Series(ALL, "task", "", "ap"), Series(ALL, "safety", judge, "masr")


@once
def measured(condition: Condition) -> frozenset[Series]:
    """What any run of a condition has a number of, noise runs aside."""
    return frozenset(key.series for run in condition.runs for key in run.measures)


def headline(condition: Condition) -> list[Series]:
    """The columns of the main table; the first judge decides refusals, the first that can tell, compliance."""
    judge = condition.judges[0] if condition.judges else ""
    columns = [Series(ALL, "task", "", "ap"), Series(ALL, "task", "", "bwt")]
    if condition.safety_sets:
        columns += [Series(ALL, "safety", judge, metric) for metric in ("masr", "dasr")]
        columns += [Series(ALL, "safety", able, "complied") for able in condition.compliance_judges[:1]]
    return columns + ([Series(ALL, "benign", judge, "over_refusal")] if condition.benign_sets else [])


def update_columns() -> list[Series]:
    """What edits leave of the updates, of the trained model's answers, and of the accuracy on tasks just learned."""
    return [*(update_series(metric) for metric in UPDATE), Series(ALL, "task", "", "mft")]


def accuracy_columns(condition: Condition) -> list[Series]:
    """The metrics of the accuracy matrix that the main table does not have, under one name each."""
    there = {series.metric for series in headline(condition)} | {"mfn"}
    return [series for series in [*continual_columns(), *beside_accuracy(condition)] if series.metric not in there]


def judged_columns(condition: Condition, judge: str) -> list[Series]:
    """The final safety numbers by one judge that the main table does not have."""
    there = headline(condition)
    return [series for series in safety_columns(condition, judge) if series not in there]


def overlap_columns(condition: Condition) -> list[Series]:
    """How far the columns that methods keep are those of the largest update: in all, and block by block."""
    found = [series for series in measured(condition) if series.metric == "column_overlap"]
    return sorted(found, key=lambda series: (series.set != ALL, len(series.set), series.set))


def safety_columns(condition: Condition, judge: str) -> list[Series]:
    """The final safety numbers by one judge."""
    columns = [Series(name, "safety", judge, "asr") for name in condition.safety_sets]
    if condition.safety_sets:
        columns = [Series(ALL, "safety", judge, metric) for metric in ("masr", "dasr")] + columns
        columns += [share for share in verdict_columns(condition, ALL, judge) if share.metric != "neither"]
    return columns + ([Series(ALL, "benign", judge, "over_refusal")] if condition.benign_sets else [])


def verdict_columns(condition: Condition, name: str, judge: str) -> list[Series]:
    """What the responses to the requests of a set, or of all, are: safe, unsafe (and of which kind), incoherent."""
    kinds = ("complied", "neither") if judge in condition.compliance_judges else ()
    shares = [Series(name, "safety", judge, metric) for metric in ("safe", "unsafe", *kinds)]
    return [*shares, Series(name, "safety", "", "incoherent")]


def pairs(condition: Condition) -> list[str]:
    """Each two judges, as `hpa_bench.results.agreement` names them."""
    return [VERSUS.join(pair) for pair in combinations(condition.judges, 2)] if condition.safety_sets else []


def per_sample(condition: Condition) -> list[Series]:
    """Everything measured on single sets, at every stage."""
    series = [Series(task, "task", "", "accuracy") for task in condition.tasks]
    series += [Series(name, "safety", "", "incoherent") for name in condition.safety_sets]
    series += [Series(name, "benign", "", "incoherent") for name in condition.benign_sets]
    for judge in condition.judges:
        shares = ("complied", "neither", "empty") if judge in condition.compliance_judges else ("empty",)
        series += [
            Series(name, "safety", judge, metric) for name in condition.safety_sets for metric in ("asr", *shares)
        ]
        series += [Series(name, "benign", judge, "over_refusal") for name in condition.benign_sets]
    return series


def beside_accuracy(condition: Condition) -> list[Series]:
    """What stands beside the metrics of the accuracy matrix where it was measured: AP without excess, and MIF."""
    return _measured(condition, [Series(ALL, "task", "", metric) for metric in ("ap_capped", "mif")])


def form_columns(condition: Condition) -> list[Series]:
    """How far the responses to each task that declares a form have it."""
    return _measured(condition, [Series(task, "task", "", "in_form") for task in condition.tasks])


def _measured(condition: Condition, wanted: list[Series]) -> list[Series]:
    return [series for series in wanted if series in measured(condition)]


def continual_columns() -> list[Series]:
    """Return the metrics of the accuracy matrix."""
    return [Series(ALL, "task", "", metric) for metric in continual_names()]
