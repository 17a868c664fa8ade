"""The oldest transformers that pyproject.toml allows does what the installed one does."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.commands import hpa_bench
from tests.support.language_model import needs_language_model

ROOT = Path(__file__).parents[1]
FEWER = ["training.limit=16", "evaluation.limit=4", "calibration.safety_samples=2", "calibration.task_samples=4"]

pytestmark = pytest.mark.slow


def oldest() -> str:
    """The lower bound of transformers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(Requirement(each) for each in project["dependencies"] if each.startswith("transformers"))
    return next(each.version for each in wanted.specifier if each.operator == ">=")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the oldest transformers is imported, with what it asks for itself, and all else is as it is installed."""
    folder = tmp_path_factory.mktemp("oldest")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), f"transformers=={oldest()}.*"]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"transformers {oldest()} cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    return os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def scores_of(environment: dict[str, str], out: Path, suite: str, *settings: str) -> list[dict[str, object]]:
    """The scores of the first trained stage of a run of HPA, which has used the oldest transformers."""
    asked = [part for setting in (*FEWER, *settings) for part in ("--set", setting)]
    made = hpa_bench("run", "--suite", suite, "--method", "hpa", "--out", out, *asked, environment=environment)
    assert made.returncode == 0, made.stdout
    version = json.loads((out / "manifest.json").read_text())["numerics"]["transformers"]
    assert version.startswith(oldest() + ".")
    scores: list[dict[str, object]] = json.loads((out / "stage1" / "scores.json").read_text())
    return scores


def test_the_main_job_runs(environment: dict[str, str], tmp_path: Path) -> None:
    scores = scores_of(environment, tmp_path / "run", "tiny", "tasks=[tiny_ad]")

    assert {row["metric"] for row in scores} >= {"accuracy", "asr", "over_refusal"}


@needs_language_model
def test_suite_small_is_the_same_and_runs(environment: dict[str, str], tmp_path: Path) -> None:
    prepared = hpa_bench("prepare", "small", "--out", tmp_path / "models", environment=environment)

    assert prepared.returncode == 0 and "came out otherwise" not in prepared.stdout, prepared.stdout
    models = [f"model={tmp_path}/models/aligned", f"unaligned_model={tmp_path}/models/unaligned"]
    scores = scores_of(environment, tmp_path / "run", "small", "tasks=[small_scene]", *models)
    assert [row["value"] for row in scores if row["metric"] == "asr" and row["judge"] == "keyword"] == [0.0] * 3
