"""Folders to upload to the Hugging Face hub: a data set of runs with its card, and a model card for each run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import (
    CardData,
    DatasetCard,
    DatasetCardData,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    RepoCard,
)

from hpa_bench.errors import UserError
from hpa_bench.files import atomic
from hpa_bench.metrics import METRICS
from hpa_bench.report.conditions import conditions
from hpa_bench.report.exported import exported_name, whole_name, write_parquet
from hpa_bench.report.markdown import main_table
from hpa_bench.report.tables import number, setting
from hpa_bench.results.measures import ALL, Cell, Key, combine
from hpa_bench.results.runs import Run

TAGS = ["hpa-bench", "continual-learning", "visual-instruction-tuning", "safety"]
CARD = "README.md"


def write_hub(runs: Sequence[Run], out: Path, show_unsafe: bool = False) -> None:
    """Write `dataset/`, every number and sample with a card, and `models/<run>/README.md`, a card for its last weights.

    Args:
        runs: what to write.
        out: the folder.
        show_unsafe: keep the texts of safety sets.
    """
    dataset = out / "dataset"
    write_parquet(runs, dataset, show_unsafe)
    _save(dataset_card(runs), dataset)
    for run in runs:
        if run.stages:
            _save(model_card(run), out / "models" / exported_name(run))


def upload(folder: Path, repository: str) -> str:
    """Upload the data set of `write_hub` and return its address; a repository that is not there yet becomes private.

    Args:
        folder: what `write_hub` was given.
        repository: USER/NAME.

    Raises:
        UserError: no token is there, the hub refuses, or it is not reached.
    """
    api = HfApi()
    try:
        made = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            repo_type="dataset",
            folder_path=folder / "dataset",
            commit_message="Results of hpa-bench",
        )
    except Exception as error:  # among them those of its HTTP library, which is another one from version 2 on
        why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"The data set {repository} was not uploaded to {api.endpoint}: {why}; it lies in {folder / 'dataset'}"
            " (a token: `hf auth login`, or HF_TOKEN)."
        ) from error
    return str(made)


def dataset_card(runs: Sequence[Run]) -> DatasetCard:
    """Return the card of a data set of runs: how its parts load, and the main table of each condition."""
    titles = sorted({run.manifest.suite_title for run in runs})
    data = DatasetCardData(
        pretty_name=f"hpa-bench: {', '.join(titles)}",
        tags=TAGS,
        configs=[
            {"config_name": "results", "data_files": "results.parquet", "default": True},
            {"config_name": "samples", "data_files": "samples/*.parquet"},
        ],
    )
    tables = [f"## {found.title}\n\n{main_table(found)}" for found in conditions(runs)]
    text = [
        f"# {data.pretty_name}",
        f"{len(runs)} runs of hpa-bench: continual visual instruction tuning of safety-aligned multimodal models.",
        "`results` holds every number with its n and its 95% interval, one row a run, stage, set, judge and metric, in"
        " percent. `samples` holds one row a sample: prompt, target, response, score and verdicts. Where texts are"
        " empty, they were not kept or are withheld.",
        *tables,
    ]
    return DatasetCard(_card(data, text))


def model_card(run: Run) -> ModelCard:
    """Return the card of a run's last weights, its numbers in the form that the hub's own tables read."""
    manifest, name = run.manifest, exported_name(run)
    base = manifest.suite_config.get("model")
    data = ModelCardData(
        model_name=name,
        base_model=base if isinstance(base, str) and not base.startswith((".", "/")) else None,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=TAGS,
        eval_results=list(_evaluated(run)),
    )
    text = [
        f"# {name}",
        f"The model after stage {len(run.stages) - 1} of {run.last} of {manifest.suite_title}, tuned with"
        f" `{manifest.method}` ({setting(manifest.config) or 'no settings'}), seed {run.seed}. Tasks in order:"
        f" {', '.join(run.tasks)}.",
        f"Made with hpa-bench at commit {manifest.git_commit or 'unknown'}.",
        _numbers(run),
    ]
    return ModelCard(_card(data, text))


def _last(run: Run) -> Iterator[tuple[Key, Cell]]:
    stage = len(run.stages) - 1
    for key, measure in run.measures.items():
        if key.stage == stage and key.series.kind != "update":
            yield key, combine(key, [measure])


def _evaluated(run: Run) -> Iterator[EvalResult]:
    for key, cell in _last(run):
        series, title = key.series, METRICS[key.series.metric].title
        of = whole_name(run, series.kind) if series.set == ALL else series.set
        yield EvalResult(
            task_type="image-text-to-text",
            dataset_type=re.sub(r"[^\w.-]+", "-", of),
            dataset_name=of,
            metric_type=f"{series.metric}_{series.judge}" if series.judge else series.metric,
            metric_name=f"{title}, judged by {series.judge}" if series.judge else title,
            metric_value=round(cell.value, 4),
        )


def _numbers(run: Run) -> str:
    lines = ["| set | metric | judge | value | 95% interval | n |", "| --- | --- | --- | --- | --- | --- |"]
    for key, cell in _last(run):
        series = key.series
        limits = f"[{number(cell.low)}, {number(cell.high)}]" if cell.has_interval else "–"
        title = METRICS[series.metric].title
        of = f"all {series.kind} sets" if series.set == ALL else series.set
        lines.append(f"| {of} | {title} | {series.judge or '–'} | {number(cell.value)} | {limits} | {cell.n} |")
    return "\n".join(lines)


def _card(data: CardData, parts: Sequence[str]) -> str:
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _save(card: RepoCard, folder: Path) -> None:
    with atomic(folder / CARD) as file:
        file.write_text(str(card), encoding="utf-8")
