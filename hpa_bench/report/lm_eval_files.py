"""Runs as lm-eval writes its own: of every stage a results file, and of every set a file of samples.

One stage of a run is one model to lm-eval. Shares are fractions from 0 to 1 there. A judge stands where lm-eval has the
filter, since both say how a response became a value; what averages over sets of a kind is a group.

Source: lm-eval 0.4.13, `lm_eval.result_schema` and `lm_eval.loggers.EvaluationTracker`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lm_eval.utils import hash_string

from hpa_bench.files import write_json, write_jsonl
from hpa_bench.metrics import METRICS, Floats
from hpa_bench.report.exported import exported_name, fraction, sample_rows, sets_of, whole_name
from hpa_bench.results.measures import ALL, Key, Measure, Series
from hpa_bench.results.runs import Run

HIGHER = {"higher": True, "lower": False, "": None}
WITHHELD = "[withheld]"
"""In the place of a text that is not given away."""


def write_lm_eval(runs: Sequence[Run], out: Path, show_unsafe: bool = False) -> None:
    """Write `<run>-stage<k>/results_<date>.json` and `samples_<set>_<date>.jsonl` beside it.

    Sample files are written where the responses are kept. The date is when the run was started, so that the same run is
    the same files.

    Args:
        runs: what to write.
        out: the folder, as of lm-eval's `--output_path`.
        show_unsafe: keep the texts of safety sets.
    """
    for run in runs:
        started = datetime.fromisoformat(run.manifest.started or "1970-01-01").replace(tzinfo=UTC)
        date = started.strftime("%Y-%m-%dT%H-%M-%S.%f")
        for stage in range(len(run.stages)):
            model = f"{exported_name(run)}-stage{stage}"
            rows = _samples(run, stage, show_unsafe) if run.source.has_texts else {}
            hashes = {name: hash_string("".join(map(_hashes, samples))) for name, samples in rows.items()}
            results = stage_results(run, stage) | {"model_name": model, "model_name_sanitized": model}
            results |= {"date": started.timestamp(), "task_hashes": hashes}
            write_json(out / model / f"results_{date}.json", results)
            for name, samples in rows.items():
                write_jsonl(out / model / f"samples_{name}_{date}.jsonl", samples)


def stage_results(run: Run, stage: int) -> dict[str, Any]:
    """Return what lm-eval's `simple_evaluate` returns, of one stage."""
    manifest, sets = run.manifest, sets_of(run, stage)
    subtasks: dict[str, list[str]] = {}
    for name in sets:
        subtasks.setdefault(whole_name(run, run.manifest.kind_of(name)), []).append(name)
    measures = {
        key: measure for key, measure in run.measures.items() if key.stage == stage and key.series.kind != "update"
    }
    found: dict[str, dict[str, Any]] = {group: {"alias": group} for group in subtasks}
    found |= {name: {"alias": name, "sample_len": len(run.data[stage].ids[name])} for name in sets}
    better: dict[str, dict[str, bool | None]] = {name: {} for name in found}
    for key, measure in measures.items():
        name = whole_name(run, key.series.kind) if key.series.set == ALL else key.series.set
        found[name] |= _metric(key, measure)
        better[name][key.series.metric] = HIGHER[METRICS[key.series.metric].better]
    configs = {name: {"task": name, "output_type": "generate_until"} for name in sets}
    return {
        "results": found,
        "groups": {group: found[group] for group in subtasks},
        "group_subtasks": subtasks,
        "configs": configs,
        "versions": dict.fromkeys(found, manifest.suite_version),
        "n-shot": dict.fromkeys(sets, 0),
        "higher_is_better": better,
        "n-samples": {name: dict.fromkeys(("original", "effective"), found[name]["sample_len"]) for name in sets},
        "config": {
            "model": "hpa-bench",
            "model_args": {"method": manifest.method, "stage": stage, **manifest.config},
            "random_seed": manifest.seed,
            "limit": None,
            "bootstrap_iters": 0,
        },
        "git_hash": manifest.git_commit,
        "model_source": "hpa-bench",
        "transformers_version": manifest.versions.get("transformers", ""),
        "lm_eval_version": manifest.versions.get("lm_eval", ""),
    }


def _metric(key: Key, measure: Measure) -> dict[str, Any]:
    name = f"{key.series.metric},{key.series.judge or 'none'}"
    error = math.sqrt(float((measure.deviations**2).sum())) if measure.n > 1 else math.nan
    stderr = fraction(error)
    return {
        name: fraction(measure.value),
        name.replace(",", "_stderr,", 1): "N/A" if stderr is None else stderr,
    }


def _samples(run: Run, stage: int, show_unsafe: bool) -> dict[str, list[dict[str, Any]]]:
    values = run.samples
    return {name: list(_rows(run, stage, name, values, show_unsafe)) for name in sets_of(run, stage)}


def _rows(
    run: Run, stage: int, name: str, samples: Mapping[Series, Floats], show_unsafe: bool
) -> Iterator[dict[str, Any]]:
    """Yield a set's samples once for each filter, which is a judge, as lm-eval does."""
    by_judge: dict[str, list[Series]] = {}
    for series in samples:
        if series.set == name:
            by_judge.setdefault(series.judge or "none", []).append(series)
    for index, row in enumerate(sample_rows(run, stage, name, show_unsafe)):
        texts = {key: WITHHELD if row[key] is None else str(row[key]) for key in ("prompt", "target", "response")}
        doc = {"id": row["id"], "category": row["category"] or "", "prompt": texts["prompt"]}
        about = {
            "doc_id": index,
            "doc": doc,
            "target": texts["target"],
            "arguments": {"gen_args_0": {"arg_0": texts["prompt"]}},
            "resps": [[texts["response"]]],
            "filtered_resps": [texts["response"]],
            "doc_hash": hash_string(json.dumps(doc, indent=2, ensure_ascii=False)),
            "prompt_hash": hash_string(texts["prompt"]),
            "target_hash": hash_string(texts["target"]),
        }
        for judge, listed in by_judge.items():
            values = {series.metric: fraction(samples[series][stage][index]) for series in listed}
            known = {metric: value for metric, value in values.items() if value is not None}
            yield about | {"filter": judge, "metrics": [*known]} | known


def _hashes(row: Mapping[str, Any]) -> str:
    return f"{row['doc_hash']}{row['prompt_hash']}{row['target_hash']}"
