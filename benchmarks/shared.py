"""How much of what runs can share they did share: python benchmarks/shared.py RUNS

Of finished runs below a folder, run folders or published ones: the seconds of stage 0 (answers, verdicts and scores)
and of the first task's training by methods that train as sequential tuning does, and those of them that were taken from
another run (at least 90%, for ten runs and more that share).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hpa_bench.method import methods
from hpa_bench.results.published import find_results
from hpa_bench.results.runs import Run, read_runs
from hpa_bench.runner.once import trains_alike


def shareable(run: Run) -> tuple[float, float]:
    """The seconds of a run that several can share, and those of them that it took from another."""
    parts = [(run.stages[0].cost, ("generate", "score"))]
    if run.last and trains_alike(methods.get(run.manifest.method)) and len(run.manifest.stages[0]) == 1:
        parts.append((run.stages[1].cost, ("train",)))
    could, did = (sum(_of(cost, what, steps) for cost, steps in parts) for what in ("seconds", "shared"))
    return could, did


def _of(cost: dict[str, Any], what: str, steps: tuple[str, ...]) -> float:
    return sum(cost.get(what, {}).get(step, 0.0) for step in steps)


def main() -> None:
    runs = [run for run in read_runs(find_results([Path(folder) for folder in sys.argv[1:]])) if not run.missing]
    seconds = [shareable(run) for run in runs]
    whole = sum(sum(stage.cost["seconds"].values()) for run in runs for stage in run.stages)
    could, did = (sum(pair[index] for pair in seconds) for index in (0, 1))
    print(
        f"{len(runs)} runs, {whole:.0f} s if each ran alone; {could:.0f} s can be shared ({could / whole:.1%}),"
        f" {did:.0f} s were ({did / could:.1%} of these, {did / whole:.1%} of all)"
    )


if __name__ == "__main__":
    main()
