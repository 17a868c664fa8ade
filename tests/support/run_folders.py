"""Synthetic run folders, written by the store's own writers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from hpa_bench.data.samples import Sample
from hpa_bench.files import write_json, write_jsonl
from hpa_bench.results.manifest import FORMAT, MANIFEST, Manifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.thumbnails import thumbnail_rows
from hpa_bench.verdict import COMPLIANCE, REFUSALS, Vocabulary

TASKS = ["toy_ad", "toy_digits", "toy_caption"]
SAFETY = ["toy_unsafe_image", "toy_unsafe_text"]
BENIGN = ["toy_benign"]
JUDGES = ["keyword", "toy_compliance"]


def toy_manifest(**values: Any) -> Manifest:
    """Return the least manifest of a run with one task and no other set, some of its fields replaced."""
    about = {"format": FORMAT, "suite": "toy", "method": "seqft", "config": {}, "seed": 0, "harmful_ratio": 0.0}
    about |= {"tasks": ["ad"], "stages": [["ad"]], "safety_sets": [], "benign_sets": [], "judges": []}
    return Manifest(**{**about, **values})


def write_run(
    root: Path,
    method: str = "hpa",
    seed: int = 0,
    *,
    tasks: Sequence[str] = TASKS,
    safety_sets: Sequence[str] = SAFETY,
    benign_sets: Sequence[str] = BENIGN,
    stages: Sequence[Sequence[str]] | None = None,
    finished: int | None = None,
    n: int = 40,
    config: Mapping[str, Any] | None = None,
    changed: Mapping[str, Any] | None = None,
    harmful_ratio: float = 0.0,
    response: str | None = None,
    forget: float = 0.25,
    unsafe: float = 0.2,
    learn: float = 0.92,
    shuffle: bool = False,
    categories: bool = False,
    manifest: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Write a run whose scores depend on its arguments alone; stage 0 is the same for every method and seed."""
    curriculum = [[task] for task in tasks] if stages is None else [list(stage) for stage in stages]
    name = f"{method}-{zlib.crc32(str(config).encode()):08x}"
    folder = RunFolder(root / "toy" / name / f"seed{seed}")
    about = {
        "format": FORMAT,
        "suite": "toy",
        "method": method,
        "config": dict(config or {}),
        "changed": dict(changed or {}),
        "seed": seed,
        "tasks": list(tasks),
        "stages": curriculum,
        "safety_sets": list(safety_sets),
        "benign_sets": list(benign_sets),
        "judges": JUDGES,
        "verdicts": {"keyword": Vocabulary(REFUSALS).said(), "toy_compliance": Vocabulary(COMPLIANCE).said()},
        "harmful_ratio": harmful_ratio,
        "training": {"learning_rate": 0.001, "epochs": 1},
        "versions": {"python": "3.11", "torch": "2.0"},
        "git_commit": "0123456789abcdef",
        "hardware": {"cpu": "test", "cores": 2},
        "started": "2026-01-01T00:00:00+00:00",
    }
    about |= dict(manifest or {})
    Manifest(**about).write(folder.path / MANIFEST)
    last = len(curriculum) if finished is None else finished
    for stage in range(last + 1):
        _write_stage(folder, stage, about, n, response, forget, unsafe, shuffle, categories, learn)
    return folder


def rewrite_manifest(run: RunFolder, **values: Any) -> None:
    """Write a run's manifest again with other values."""
    run.manifest.model_copy(update=values).write(run.path / MANIFEST)


def write_references(run: RunFolder, judge: str, name: str, verdicts: Sequence[str]) -> None:
    """Give the first samples of a set a reference answer each, with a judge's verdict on it."""
    path = run.stage(0).path / "responses" / f"{name}.jsonl"
    rows = run.stage(0).responses(name)
    for row in rows[: len(verdicts)]:
        row["target"] = "I would rather not."
    write_jsonl(path, rows)
    judged = [{"id": row["id"], "verdict": verdict} for row, verdict in zip(rows, verdicts, strict=False)]
    write_jsonl(run.path / "references" / "judgements" / judge / f"{name}.jsonl", judged)


def write_updates(
    run: RunFolder, kept: float | None = 0.8, kl: float = 0.1, common: Sequence[int] = (), columns: int = 20
) -> None:
    """Give every stage the record of its update; of a method that keeps columns, 4 of one layer a block.

    Args:
        run: the run.
        kept: what is left of the update, a fraction.
        kl: nats per answer token.
        common: by block, how many of the 4 are among the largest.
        columns: of each layer.
    """
    blocks = [{f"layers.{i}.q_proj": {"columns": columns, "kept": 4, "common": n}} for i, n in enumerate(common)]
    for stage in run.finished_stages()[1:]:
        write_json(stage.update_file, {"kept": kept, "kl": kl, "samples": 32, "tokens": 64, "blocks": blocks})


def write_forms(run: RunFolder, tasks: Sequence[str] = TASKS[:2]) -> None:
    """Give the responses to some tasks a form, which every right one has and every other wrong one."""
    for stage in run.finished_stages():
        for name in tasks:
            rows = [
                {**row, "in_form": row["score"] == 1 or index % 2 == 0}
                for index, row in enumerate(stage.responses(name))
            ]
            write_jsonl(stage.path / "responses" / f"{name}.jsonl", rows)


def write_thumbnails(run: RunFolder, image: Image) -> None:
    """Give the first 16 samples of every set the same image."""
    for name in [*run.manifest.tasks, *run.manifest.safety_sets, *run.manifest.benign_sets]:
        samples = [Sample(row["id"], name, "", "", [image]) for row in run.stage(0).responses(name)]
        write_jsonl(run.path / "thumbnails" / f"{name}.jsonl", thumbnail_rows(samples[:16]))


def _write_stage(
    folder: RunFolder,
    stage: int,
    about: Mapping[str, Any],
    n: int,
    response: str | None,
    forget: float,
    unsafe: float,
    shuffle: bool,
    categories: bool,
    learn: float,
) -> None:
    target = folder.stage(stage)
    who = [0] if stage == 0 else [1, about["seed"], sum(about["method"].encode()), len(str(about["config"]))]
    trained = [task for group in about["stages"][:stage] for task in group]
    for index, name in enumerate([*about["tasks"], *about["safety_sets"], *about["benign_sets"]]):
        rng = np.random.default_rng([*who, stage, index])
        ease = np.random.default_rng([7, index]).random(n)  # The same samples are hard for everyone.
        task = name in about["tasks"]
        chance = 0.3
        if name in trained:
            age = len(trained) - 1 - trained.index(name) if len(about["stages"]) > 1 else 0
            chance = learn - forget * age / max(1, len(about["tasks"]) - 1)
        hit = 0.7 * ease + 0.3 * rng.random(n) < (chance if task else 0.03 + unsafe * stage / 3)
        graded = task and "caption" in name
        scores = [round(float(rng.integers(0, 4) / 3), 4) if graded and not yes else float(yes) for yes in hit]
        order = rng.permutation(n) if shuffle else np.arange(n)
        rows = []
        verdicts: dict[str, list[dict[str, str]]] = {"keyword": [], "toy_compliance": []}
        for i in order:
            refused = bool(hit[i]) if name in about["benign_sets"] else not hit[i]
            kind = "refused" if refused else "empty" if i % 11 == 0 else "neither" if i % 5 == 0 else "complied"
            text = f"right {i}" if task and hit[i] else "I cannot help." if refused else f"Sure, {i}."
            if kind == "empty" and not task:
                text = ""
            text = response or text
            rows.append(
                {
                    "id": f"{name}-{i:03}",
                    "prompt": f"<image>\nQuestion {i}?",
                    "target": f"right {i}" if task else "",
                    "response": text,
                    "score": scores[i] if task else None,
                }
            )
            if categories and not task:
                rows[-1]["category"] = ("fraud", "privacy", "violence")[i % 3]
            verdicts["toy_compliance"].append({"id": rows[-1]["id"], "verdict": kind})
            keyword = kind if kind in ("refused", "empty") else "not_refused"
            verdicts["keyword"].append({"id": rows[-1]["id"], "verdict": keyword})
        write_jsonl(target.path / "responses" / f"{name}.jsonl", rows)
        if not task:
            for judge in about["judges"]:
                write_jsonl(target.path / "judgements" / judge / f"{name}.jsonl", verdicts[judge])
    target.add_cost(seconds={"train": 8.1 * bool(stage), "adapt": 1.2 * bool(stage), "evaluate": 3.3})
    target.add_cost(peak_memory_bytes=700_000_000 + stage, trainable_parameters=120_000, state_bytes=4096 * stage)
    target.finish({})
