"""`hpa-bench adapt`: what it prints, and one sentence where it cannot."""

import json
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from tests.support.adaptations import write_models
from tests.support.faults import command


@pytest.mark.slow
def test_it_says_what_is_left_by_block_and_writes_it_down(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    asked = ["adapt", "--before", models / "before", "--after", models / "adapter", "--out", tmp_path / "out"]
    asked += ["--safety", models / "safety.json", "--task", models / "task.json", "--answers", models / "answers.jsonl"]

    said = command(*asked, "--set", "p_max=50", "--set", "p_min=20", "--device", "cpu", "--figure", tmp_path / "left")

    record = json.loads((tmp_path / "out" / "adapt.json").read_text())
    assert record["config"]["p_max"] == 50 and len(record["layers"]) == 21
    first = [layer for layer in record["layers"] if ".layers.0." in layer["name"]]
    kept = sum(layer["kept"] for layer in first) / sum(layer["columns"] for layer in first)
    assert "model.language_model.layers.0" in said and f"{kept:.1%}" in said and "model.language_model.layers.2" in said
    assert "hpa: 21 weights edited" in said and f"{record['norm']:.1%} of the norm of the change is left" in said
    assert "is calibrated on 4 safety samples instead of 8" in said and str(tmp_path / "out") in said
    assert (tmp_path / "left.svg").read_text().startswith("<?xml") and (tmp_path / "left.png").stat().st_size > 10_000


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no model folder '/nowhere'"):
        command("adapt", "-m", "wise_ft", "--before", "/nowhere", "--after", "/nowhere", "--out", tmp_path / "out")
