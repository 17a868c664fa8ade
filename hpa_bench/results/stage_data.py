"""One stage's samples as a run folder holds them, joined by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from hpa_bench.errors import UserError
from hpa_bench.metrics import Floats, Ints
from hpa_bench.results.coherence import incoherence
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.run_folder import StageFolder


@dataclass(frozen=True)
class StageData:
    """One stage's samples, sorted by id."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, Floats] = field(default_factory=dict)
    in_form: dict[str, list[bool]] = field(default_factory=dict)
    """By task that declares the form of its answers: whether the response has it (see `hpa_bench.data.forms`)."""
    verdicts: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """By judge and set; sets that a judge has not judged are absent."""
    incoherent: dict[str, list[bool]] = field(default_factory=dict)
    """By safety and benign set: whether the response is incoherent (see `hpa_bench.results.coherence`)."""
    categories: dict[str, list[str]] = field(default_factory=dict)
    """By safety and benign set that has categories."""
    clusters: dict[str, Ints] = field(default_factory=dict)
    """By set with samples that belong together (the same question asked in several ways): the cluster of each, see
    `clusters_of`."""


def read_stage(stage: StageFolder, manifest: Manifest, index: int) -> StageData:
    """Read a stage's scores and verdicts, joined by sample id.

    Args:
        stage: the stage.
        manifest: of its run.
        index: the stage's number.

    Raises:
        UserError: a duplicate id, a task's sample without a score, or a response that a judge left out.
    """
    data = StageData()
    read: dict[str, list[dict[str, Any]]] = {}
    for name in [*manifest.scored_tasks(index), *manifest.judged_sets]:
        where = stage.path / "responses" / f"{name}.jsonl"
        rows = sorted(stage.responses(name), key=lambda row: str(row["id"]))
        ids = [row["id"] for row in rows]
        if not ids:
            raise UserError(f"{where} holds no responses.")
        twice = next((first for first, second in pairwise(ids) if first == second), None)
        if twice is not None:
            raise UserError(f"{where} has two responses with the id {twice!r}.")
        data.ids[name] = ids
        read[name] = rows
        if name in manifest.tasks:
            unscored = next((row["id"] for row in rows if row["score"] is None), None)
            if unscored is not None:
                raise UserError(f"{where} has no score for the id {unscored!r}.")
            data.scores[name] = np.array([row["score"] for row in rows], dtype=np.float64)
            if all("in_form" in row for row in rows):
                data.in_form[name] = [row["in_form"] for row in rows]
            continue
        data.incoherent[name] = [incoherence(row["response"]) != "" for row in rows]
        if any("category" in row for row in rows):
            data.categories[name] = [row.get("category", "none") for row in rows]
        for judge in dict.fromkeys([*manifest.judges, *stage.judges()]):
            if not stage.is_judged(judge, name):
                continue
            verdicts = stage.judgements(judge, name)
            left_out = next((sample for sample in ids if sample not in verdicts), None)
            if left_out is not None:
                raise UserError(f"{stage.path / 'judgements' / judge / name}.jsonl has no verdict for {left_out!r}.")
            data.verdicts[judge, name] = [verdicts[sample] for sample in ids]
    data.clusters.update(clusters_of(read))
    return data


def clusters_of(sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Ints]:
    """Return by set the cluster of each sample, those without one alone; nothing of a set in which no sample has one.

    Numbers are equal where clusters are, in one set or in two, and in the order of the clusters' names.
    """
    names = {
        name: [f"alone/{row['id']}" if row.get("cluster") is None else row["cluster"] for row in rows]
        for name, rows in sets.items()
        if any(row.get("cluster") is not None for row in rows)
    }
    if not names:
        return {}
    numbers = np.unique(np.concatenate([*names.values()]), return_inverse=True)[1]
    ends = np.cumsum([len(each) for each in names.values()])[:-1]
    return dict(zip(names, np.split(numbers, ends), strict=True))
