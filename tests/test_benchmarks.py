"""The benchmark scripts still run; what they measure here means nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from benchmarks import adapt_memory
from benchmarks.methods import passes
from benchmarks.shapes import published_names, random_llava
from hpa_bench.models.loading import load_model

ROOT = Path(__file__).parents[1]
SMALL = {
    "adapt_memory": "--folder . --shape few",
    "edit_memory": "--hidden 128 --mlp 192 --blocks 1 --samples 1 --tokens 4 --methods hpa,resta",
    "generation": "--threads 1",
    "hpa_floor": "--hidden 64 --mlp 128 --layers 1 --tokens 8 --task-samples 8 --repeats 1",
    "lm_eval_overhead": "--requests 200",
    "report": "--runs 6",
    "run_cost": f". --python {sys.executable} --rounds 1 --set tasks=[tiny_ad] --set safety_sets=[] --set"
    " benign_sets=[] --set training.limit=16 --set evaluation.limit=2 --here numerics=portable",
    "training_step": "--rounds 1",
    "validate": "--rows 300",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_script_runs(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name].split()]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert any(character.isdigit() for character in result.stdout)


def test_the_edit_of_all_blocks_of_7b_is_refused_where_the_disk_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: there._replace(free=44 * 10**9))
    monkeypatch.setattr(sys, "argv", ["adapt_memory", "--folder", str(tmp_path)])

    with pytest.raises(SystemExit) as ended:
        adapt_memory.main()

    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{tmp_path} has 44 GB free, and 45 are asked for.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_passes_are_counted() -> None:
    alone, with_replay = (passes(name, 0, "training.limit=32", "training.epochs=1") for name in ("seqft", "replay"))

    assert alone["with gradient"] > 0 == alone["without"]
    assert with_replay["with gradient"] > alone["with gradient"]


@pytest.mark.slow
def test_a_model_with_published_names_is_the_same(tmp_path: Path) -> None:
    random_llava("few", tmp_path, "cpu", torch.float32)
    before = load_model(tmp_path)[0].state_dict()
    published_names(tmp_path)

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        towers = [name for name in file.keys() if "vision_tower." in name]  # noqa: SIM118
    assert towers and all(name.startswith("vision_tower.vision_model.") for name in towers)
    after = load_model(tmp_path)[0].state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
