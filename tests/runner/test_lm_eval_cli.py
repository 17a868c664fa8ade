"""The YAMLs work under lm-eval's own command line, with its own model class and no hpa-bench command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_bench.suite import BUNDLED
from tests.support.downloads import write_dcl

ROOT = Path(__file__).parents[2]


def lm_eval(*arguments: str) -> str:
    command = [sys.executable, "-m", "lm_eval", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["tasks", "safety_sets"])
def test_every_yaml_is_valid(folder: str) -> None:
    names = [path.stem for path in (ROOT / folder).rglob("*.yaml")]

    assert len(names) >= 6
    assert "valid" in lm_eval("validate", "--tasks", ",".join(names), "--include_path", folder)


@pytest.mark.slow
def test_a_stock_model_class_runs_a_task(tmp_path: Path) -> None:
    model = ["--model", "hf-multimodal", "--model_args", f"pretrained={BUNDLED / 'tiny' / 'aligned'},dtype=float32"]
    what = ["--include_path", "tasks", "--tasks", "tiny_ad", "--limit", "4", "--apply_chat_template"]
    output = lm_eval("run", *model, *what, "--device", "cpu", "--batch_size", "4", "--output_path", str(tmp_path))

    assert "|tiny_ad" in output.replace(" ", "")
    assert list(tmp_path.rglob("results_*.json"))


@pytest.mark.slow
def test_a_users_download_is_given_as_metadata(tmp_path: Path) -> None:
    write_dcl(tmp_path)
    metadata = json.dumps({"data_root": str(tmp_path), "rules": "strict"})
    model = ["--model", "hf-multimodal", "--model_args", f"pretrained={BUNDLED / 'tiny' / 'aligned'},dtype=float32"]
    what = ["--include_path", "tasks", "--tasks", "dcl_ad", "--limit", "2", "--apply_chat_template"]
    output = lm_eval("run", *model, *what, "--metadata", metadata, "--device", "cpu", "--batch_size", "2")

    assert "|dcl_ad" in output.replace(" ", "")
