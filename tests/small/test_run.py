"""Suite small as its page says: `prepare small`, then a run of HPA on the real language model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import hpa_bench
from tests.support.language_model import needs_language_model

FEWER = (
    *("training.limit=16", "evaluation.limit=8", "calibration.safety_samples=2", "calibration.task_samples=4"),
    "tasks=[small_scene]",
)


@pytest.mark.slow
@needs_language_model
def test_a_run_on_the_language_model_trains_edits_and_is_scored(tmp_path: Path) -> None:
    models = tmp_path / "models"
    prepared = hpa_bench("prepare", "small", "--out", models)
    assert prepared.returncode == 0 and "came out otherwise" not in prepared.stdout, prepared.stdout
    asked = [f"model={models}/aligned", f"unaligned_model={models}/unaligned", *FEWER]

    # Kernels are chosen before torch is there, so in a process of its own.
    command = [sys.executable, "-m", "hpa_bench", "run", "--suite", "small", "--method", "hpa"]
    command += ["--out", str(tmp_path / "run"), *(part for pair in asked for part in ("--set", pair))]
    ran = subprocess.run(command, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["numerics"]["variables"]["ATEN_CPU_CAPABILITY"] == "avx2"
    aligned, tuned = (_scores(tmp_path / "run" / f"stage{stage}") for stage in (0, 1))
    assert [value for (_, metric), value in aligned.items() if metric == "asr"] == [0.0] * 3
    assert ("small_scene", "accuracy") in tuned and aligned.keys() <= tuned.keys()
    # Edits keep 15% to 5% of the columns of 30 blocks, so most of the update is there, and not all of it.
    assert 0.5 < json.loads((tmp_path / "run" / "stage1" / "update.json").read_text())["kept"] < 1


def _scores(stage: Path) -> dict[tuple[str, str], float]:
    """The scores of a stage by set and metric, by the first judge or of what needs none."""
    rows = json.loads((stage / "scores.json").read_text())
    return {(row["set"], row["metric"]): row["value"] for row in rows if row["judge"] in ("", "keyword")}
