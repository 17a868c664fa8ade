"""Folders for the Hugging Face hub, read back by its own card classes and by `datasets`."""

from pathlib import Path

import pandas as pd
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard

from hpa_bench.report.hub import write_hub
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import SAFETY, write_run


def exported(tmp_path: Path) -> Path:
    runs = [write_run(tmp_path / "runs", method) for method in ("hpa", "seqft")]
    write_hub(read_runs(runs), tmp_path / "out")
    return tmp_path / "out"


def test_the_data_set_loads_as_its_card_says(tmp_path: Path) -> None:
    dataset = exported(tmp_path) / "dataset"
    card = DatasetCard.load(dataset / "README.md")

    assert {part["config_name"] for part in card.data.to_dict()["configs"]} == {"results", "samples"}
    cache = str(tmp_path / "cache")
    results = load_dataset(str(dataset), "results", split="train", cache_dir=cache)
    assert len(results) == len(pd.read_parquet(dataset / "results.parquet"))
    samples = load_dataset(str(dataset), "samples", split="train", cache_dir=cache)
    assert set(samples["method"]) == {"hpa", "seqft"}
    assert {row["response"] for row in samples if row["set"] == SAFETY[0]} == {None}
    assert "| `hpa` | 1 |" in card.text and "| `seqft` | 1 |" in card.text


def test_a_models_card_has_its_numbers_as_the_hub_reads_them(tmp_path: Path) -> None:
    folder = exported(tmp_path) / "models"
    cards = {path.parent.name: ModelCard.load(path) for path in folder.rglob("README.md")}
    assert len(cards) == 2

    name, card = next((name, card) for name, card in cards.items() if "-hpa-" in name)
    assert card.data.model_name == name
    run = next(one for one in read_runs([write_run(tmp_path / "again", "hpa")]))
    told = {(one.dataset_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    last = {key: value for key, value in run.measures.items() if key.stage == run.last}
    assert len(told) == len(last)
    ap = next(value for key, value in last.items() if key.series.metric == "ap")
    assert told[f"{run.manifest.suite_title}, task sets", "ap"] == round(ap.value, 4)
