"""Why a run does not have a number: what stands in its place."""

from __future__ import annotations

from hpa_bench.metrics import UPDATE, continual_names, defined_metrics
from hpa_bench.results.agreement import VERSUS
from hpa_bench.results.measures import ALL, Key, Series
from hpa_bench.results.runs import Run


def absence(run: Run, key: Key) -> str:
    """Return what stands in the place of a number that this run does not have.

    Returns:
        "-" where it does not exist, "undefined: reason" where these data do not define it, or "missing: reason".
    """
    stage, (name, kind, judge, metric) = key
    defined, matrix = defined_metrics(run.curriculum, run.tasks), run.manifest.matrix
    if metric in UPDATE and "mft" not in defined:
        return "undefined: no stage trains one task alone"
    undefined = metric in continual_names() and metric not in defined
    if stage > run.last or undefined:
        return "-"
    if stage >= len(run.stages):
        return f"missing: {run.missing}"
    if metric in defined - defined_metrics(run.curriculum, run.tasks, matrix):
        return f"undefined: evaluation.matrix={matrix} leaves out what it needs"
    if kind == "task" and not {*(run.tasks if name == ALL else [name])} <= {*run.manifest.scored_tasks(stage)}:
        return f"undefined: evaluation.matrix={matrix} leaves it out"
    if metric in UPDATE:
        measured = all(run.updates)
        return "undefined: training changed no weight" if measured else "missing: not measured"
    sets = [name.partition("/")[0]] if name != ALL else _sets(run, kind)
    for one in judge.split(VERSUS) if judge else ():
        # A change since stage 0 lacks stage 0's verdicts as well.
        for index in (0, stage) if metric in ("dasr", "category_change") else (stage,):
            unjudged = [part for part in sets if (one, part) not in run.data[index].verdicts]
            if unjudged:
                reasons = (run.stages[index].missing_judgement(one, part) for part in unjudged)
                where = "" if index == stage else "stage 0 "
                return f"missing: {next(filter(None, reasons), f'{where}not judged by {one}')}"
    return "undefined: each judge gives all these responses the same verdict" if metric == "kappa" else "-"


def uncalibrated(run: Run, series: Series) -> str:
    """Return what stands in the place of a judge's number on reference answers, where there is none."""
    for name in [series.set] if series.set != ALL else _sets(run, series.kind):
        if not run.stages or not any(row.get("target") for row in run.stages[0].responses(name)):
            return "no reference answers"
        if not run.source.references.is_judged(series.judge, name):
            reason = run.source.references.missing_judgement(series.judge, name)
            return f"missing: {reason or f'reference answers not judged by {series.judge}'}"
    return "-"


def _sets(run: Run, kind: str) -> list[str]:
    """Return the sets that a judge looks at; of tasks, none."""
    return {"safety": run.manifest.safety_sets, "benign": run.manifest.benign_sets}.get(kind, [])
