"""Publish finished runs, each once, as hpa_bench/results/published.py reads them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hpa_bench.errors import UserError
from hpa_bench.files import atomic, read_object, write_json
from hpa_bench.machine.disk import refusals_told
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.published import ABOUT, RESULTS, PublishedRun, portable, run_name
from hpa_bench.results.source import References, Source, StageSource, read_stages
from hpa_bench.results.stage_data import StageData
from hpa_bench.results.vocabularies import judges_of

FORMAT = 1
SAMPLES = "samples-"
"""How the names of files of samples begin."""
TEXTS_OF = 0
"""The seed whose responses are kept as texts."""
ALIKE = ("suite", "suite_version", "git_commit", "versions")
"""What all runs of one folder have in common."""
GATHERED = ("versions", "numerics")
"""That of which runs say parts, each the same wherever it is said: versions, of which those of an engine's own packages
stand with its runs alone, and numerics by what a suite asks for (portable, native)."""

RUN = pa.schema(
    [
        ("run", pa.string()),
        ("stage", pa.int16()),
        ("set", pa.string()),
        ("sha256", pa.binary(32)),
        ("scores", pa.list_(pa.float64())),
        ("incoherent", pa.list_(pa.bool_())),
        ("verdicts", pa.map_(pa.string(), pa.list_(pa.string()))),
        ("responses", pa.list_(pa.string())),
        ("cost", pa.string()),
        ("in_form", pa.list_(pa.bool_())),
    ]
)
_SAMPLE = pa.schema(
    [
        *((name, pa.string()) for name in ("set", "id", "prompt", "target", "category", "cluster")),
        ("images", pa.list_(pa.string())),
    ]
)


class Published(NamedTuple):
    """What became of a run that was to be published."""

    path: Path
    new: bool
    """Whether it was not there before."""


def publish(source: Source, out: Path, *, show_unsafe: bool = False) -> Published:
    """Publish a finished run; one that is there already, with the same results, stays as it is.

    Where judges were added since, its file is written again with their verdicts.

    Args:
        source: the run.
        out: the folder of a report; results stand in its `results/`.
        show_unsafe: keep the texts and images of safety sets, too.

    Raises:
        UserError: the run is not finished, or was made from uncommitted code; or what is published there is of another
            suite, version, commit, numerics or packages, or holds this run with other results.
    """
    manifest = source.manifest
    if len(source.stages) <= len(manifest.stages):
        raise UserError(f"{source.path} is not finished, so it cannot be published: finish it first.")
    if manifest.uncommitted:
        raise UserError(
            f"{source.path} was made from code that no commit has, so nobody else can make it: commit, and run it again"
            " in another folder."
        )
    folder = out / RESULTS
    data = read_stages(source)
    with refusals_told(folder), _locked(folder):
        _check_alike(manifest, source.path, folder)
        path = folder / run_name(manifest.compared())
        if path.exists():
            there = PublishedRun(path)
            _check_same(source, there)
            if {*judges_of(source.stages, manifest)} <= {*judges_of(there.stages, manifest)}:
                return Published(path, False)
        samples = _write_samples(source, folder, show_unsafe)
        _write(_run_table(source, data, samples, show_unsafe), path)
    return Published(path, True)


def check_code(out: Path, commit: str | None, uncommitted: bool | None) -> None:
    """Check that what this code makes can be published, before it is made.

    Args:
        out: the folder of a report.
        commit: the last that changed code, where there is one.
        uncommitted: whether the code is another.

    Raises:
        UserError: no commit has the code, or what is published is of another commit.
    """
    if uncommitted:
        raise UserError("The code has changes that no commit has, so nobody else could make these results: commit it.")
    about = out / RESULTS / ABOUT
    known = read_object(about).get("git_commit") if about.exists() else commit
    if known != commit:
        raise UserError(
            f"The results in {about.parent} are of commit {known}, and this code is of {commit}: make them in a"
            " worktree of that commit (git worktree add), or publish into another folder."
        )


def _common(manifest: Manifest) -> dict[str, Any]:
    said = manifest.compared()
    found = {name: said.get(name) for name in ALIKE}
    found |= {"suite_version": said["suite_config"]["version"], "versions": dict(manifest.versions)}
    asked = said["suite_config"].get("numerics", "native")
    return {"format": FORMAT} | found | {"numerics": {asked: said.get("numerics")}}


def _check_alike(manifest: Manifest, path: Path, folder: Path) -> None:
    """Check that a run may stand beside those of a folder; the first one says what is common."""
    about = folder / ABOUT
    mine = _common(manifest)
    known = read_object(about) if about.exists() else mine
    if known.get("format") != FORMAT:
        raise UserError(f"{about} has format {known.get('format')}, and this version reads {FORMAT}: update hpa-bench.")
    gathered = {key: mine[key] | known[key] for key in GATHERED}
    there = known | {key: {name: gathered[key][name] for name in mine[key]} for key in GATHERED}
    for name in (*ALIKE, "numerics"):
        if mine[name] != there.get(name):
            raise UserError(
                f"{path} was made with {name} {mine[name]}, and the runs in {folder} with {there.get(name)}: publish it"
                " in another folder."
            )
    if not about.exists() or any(gathered[key] != known[key] for key in GATHERED):
        write_json(about, known | gathered)


def _check_same(source: Source, there: PublishedRun) -> None:
    for stage, name in there.places:
        if source.digest(stage, name) != there.digest(stage, name):
            raise UserError(
                f"{there.path} holds the same run as {source.path} with other responses, the first of stage {stage} to"
                f" {name}: find out why (`hpa-bench verify {there.path}`), or remove it first."
            )


def _about(source: Source, data: Sequence[StageData], samples: str) -> dict[str, Any]:
    """Return what is published of the whole run: its manifest, its updates, and what judges said of reference answers.

    Verdicts on these stand in the order of the sample ids, "" where a sample has no such answer.
    """
    manifest, references = source.manifest, source.references
    sets = manifest.judged_sets
    judges = judges_of(source.stages, manifest)
    return {
        "manifest": portable(manifest.said()),
        "samples": samples,
        "updates": [stage.update for stage in source.stages],
        "can_say": {judge: said for judge in judges for stage in source.stages[:1] if (said := stage.can_say(judge))},
        "missing": [
            {judge: reasons for judge in judges if (reasons := _reasons(stage, judge, sets))} for stage in source.stages
        ],
        "references": {
            judge: {
                name: _in_order(references.judgements(judge, name), data[0].ids[name])
                for name in sets
                if references.is_judged(judge, name)
            }
            for judge in judges
        },
        "references_missing": {judge: _reasons(references, judge, sets) for judge in judges},
    }


def _in_order(given: Mapping[str, str], ids: Sequence[str]) -> list[str]:
    return [given.get(sample, "") for sample in ids]


def _reasons(judged: StageSource | References, judge: str, sets: Sequence[str]) -> dict[str, str]:
    return {name: why for name in sets if (why := judged.missing_judgement(judge, name))}


def _run_table(source: Source, data: Sequence[StageData], samples: str, show_unsafe: bool) -> pa.Table:
    manifest = source.manifest
    run = json.dumps(_about(source, data, samples), ensure_ascii=False, separators=(",", ":"))
    has_texts = source.has_texts and manifest.seed == TEXTS_OF and not manifest.noise
    rows = []
    for index, (stage, found) in enumerate(zip(source.stages, data, strict=True)):
        cost = json.dumps(dict(stage.cost), separators=(",", ":"))
        for name, ids in found.ids.items():
            responses = {row["id"]: row for row in stage.responses(name)}
            row: dict[str, Any] = {"run": run, "stage": index, "set": name, "cost": cost}
            scores = [responses[sample]["score"] for sample in ids]
            row |= {"sha256": source.digest(index, name), "scores": None if None in scores else scores}
            if name in found.incoherent:
                row["incoherent"] = found.incoherent[name]
            if name in found.in_form:
                row["in_form"] = found.in_form[name]
            row["verdicts"] = {judge: given for (judge, where), given in found.verdicts.items() if where == name}
            if has_texts and (show_unsafe or name not in manifest.safety_sets):
                row["responses"] = [responses[sample]["response"] for sample in ids]
            rows.append(row)
    return pa.Table.from_pylist(rows, RUN)


def _write_samples(source: Source, folder: Path, show_unsafe: bool) -> str:
    """Write the samples of a run's test sets, unless they are there, and return the file's name."""
    manifest = source.manifest
    rows = []
    for name in sorted([*manifest.tasks, *manifest.judged_sets]):
        images = source.thumbnails(name)
        for sample in sorted(source.stages[0].responses(name), key=lambda row: str(row["id"])):
            row = {"set": name} | {key: sample.get(key) for key in ("id", "category", "cluster")}
            if show_unsafe or name not in manifest.safety_sets:
                target = sample["target"]
                row |= {"prompt": sample.get("prompt"), "images": images.get(sample["id"])}
                row["target"] = ", ".join(map(str, target)) if isinstance(target, list) else target
            rows.append(row)
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"{SAMPLES}{digest}.parquet"
    if not path.exists():
        _write(pa.Table.from_pylist(rows, _SAMPLE), path)
    return path.name


def _write(table: pa.Table, path: Path) -> None:
    with atomic(path) as partial:
        # Without what only Arrow reads and without statistics: a footer is not compressed, and files are small.
        pq.write_table(
            table, partial, compression="zstd", compression_level=19, write_statistics=False, store_schema=False
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which several may publish into at a time; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
