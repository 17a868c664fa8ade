"""What other programs read of runs: every number, and every sample, as CSV or Parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hpa_bench.files import atomic
from hpa_bench.results.published import run_name
from hpa_bench.results.runs import Run, results_table

SAMPLES = pa.schema(
    [
        *((name, pa.string()) for name in ("suite", "method", "label")),
        ("seed", pa.int64()),
        ("stage", pa.int64()),
        *((name, pa.string()) for name in ("set", "kind", "id", "category", "prompt", "target", "response")),
        ("score", pa.float64()),
        ("in_form", pa.bool_()),
        ("verdicts", pa.string()),
    ]
)
"""One row a sample of a stage. `score` is a fraction, of tasks alone; `verdicts` is JSON, the word of each judge."""
WITHHELD = ("id", "category", "prompt", "target", "response")
"""What is text of a safety set, and does not leave a run unless that is asked for."""
BY_CATEGORY = ("category_asr", "category_change")


def exported_name(run: Run) -> str:
    """Return what a run is called outside its folder: suite, method, a hash of its settings, seed."""
    name = f"{run.manifest.suite}-{run_name(run.manifest.compared()).removesuffix('.parquet')}"
    return re.sub(r"[^\w.-]+", "-", name)


def sample_rows(run: Run, stage: int, name: str, show_unsafe: bool) -> list[dict[str, Any]]:
    """Return a set's samples after a stage, sorted by id, with the columns of `SAMPLES` from `stage` on.

    Args:
        run: the run.
        stage: a finished one.
        name: of the set.
        show_unsafe: keep the texts of safety sets; otherwise they are None, and ids are numbers.
    """
    data, kind = run.data[stage], run.manifest.kind_of(name)
    rows = sorted(run.source.stages[stage].responses(name), key=lambda row: str(row["id"]))
    judged = {judge: given for (judge, of), given in data.verdicts.items() if of == name}
    found = []
    for index, row in enumerate(rows):
        said = {judge: given[index] for judge, given in judged.items()}
        texts = {key: row.get(key) for key in WITHHELD} | {"id": str(row["id"])}
        if kind == "safety" and not show_unsafe:
            texts = dict.fromkeys(WITHHELD) | {"id": str(index)}
        scored = {"score": row["score"], "in_form": row.get("in_form")}
        verdicts = json.dumps(said, sort_keys=True) if said else None
        found.append({"stage": stage, "set": name, "kind": kind} | texts | scored | {"verdicts": verdicts})
    return found


def whole_name(run: Run, kind: str) -> str:
    """Return what all sets of a kind are called together."""
    return f"{run.manifest.suite_title}, {kind} sets"


def sets_of(run: Run, stage: int) -> list[str]:
    """Return every set that is scored after a stage: tasks in training order, safety sets, benign sets."""
    manifest = run.manifest
    return [*manifest.scored_tasks(stage), *manifest.judged_sets]


def numbers(runs: Sequence[Run], show_unsafe: bool) -> pd.DataFrame:
    """Return every number, as `load_runs` does; harm categories are texts of safety sets.

    Args:
        runs: read together, so that their labels differ where they do.
        show_unsafe: keep the numbers by harm category.
    """
    table = results_table(runs)
    return table if show_unsafe else table[~table["metric"].isin(BY_CATEGORY)].reset_index(drop=True)


def write_csv(runs: Sequence[Run], out: Path, show_unsafe: bool = False) -> None:
    """Write results.csv, and samples/<run>.csv of each run."""
    _write(runs, out, show_unsafe, "csv", lambda table, path: table.to_pandas().to_csv(path, index=False))


def write_parquet(runs: Sequence[Run], out: Path, show_unsafe: bool = False) -> None:
    """Write results.parquet, and samples/<run>.parquet of each run."""
    _write(runs, out, show_unsafe, "parquet", lambda table, path: pq.write_table(table, path, compression="zstd"))


def _write(
    runs: Sequence[Run], out: Path, show_unsafe: bool, suffix: str, write: Callable[[pa.Table, Path], object]
) -> None:
    with atomic(out / f"results.{suffix}") as file:
        write(pa.Table.from_pandas(numbers(runs, show_unsafe), preserve_index=False), file)
    for run in runs:
        table = pa.Table.from_pylist(list(_samples(run, show_unsafe)), schema=SAMPLES)
        with atomic(out / "samples" / f"{exported_name(run)}.{suffix}") as file:
            write(table, file)


def _samples(run: Run, show_unsafe: bool) -> Iterator[dict[str, Any]]:
    about = {"suite": run.manifest.suite, "method": run.manifest.method, "label": run.label, "seed": run.seed}
    for stage in range(len(run.stages)):
        for name in sets_of(run, stage):
            yield from (about | row for row in sample_rows(run, stage, name, show_unsafe))


def fraction(percent: float) -> float | None:
    """Return a share as other programs write it, from 0 to 1; None where it is not a number."""
    return None if np.isnan(percent) else round(float(percent) / 100, 12)
