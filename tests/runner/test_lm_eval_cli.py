"""The YAMLs work under lm-eval's own command line, and the commands of the docs give hpa-bench's numbers."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_bench.data.tasks import load_tasks
from hpa_bench.engines.hf import HFEngine
from hpa_bench.runner.evaluation import Evaluator
from hpa_bench.suite import BUNDLED
from tests.support.downloads import write_dcl

ROOT = Path(__file__).parents[2]
ALIGNED = BUNDLED / "tiny" / "aligned"
ROWS = 40


def called(*command: str) -> str:
    result = subprocess.run(command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def documented(page: str, *words: str) -> list[str]:
    """The first command of a page that has these words, by this interpreter."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    command = shlex.split(next(line for line in lines if all(word in line for word in words)))
    started = {"lm_eval": ["-m", "lm_eval"], "python": []}[command[0]]
    return [sys.executable, *started, *command[1:]]


def ours(task: str, limit: int) -> float:
    engine = HFEngine.open(str(ALIGNED), device="cpu", dtype="float32", batch_size=limit)
    rows = Evaluator(load_tasks([task], [ROOT / "tasks"]), limit).evaluate(engine)[task]
    return sum(row["score"] or 0 for row in rows) / len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["tasks", "safety_sets"])
def test_every_yaml_is_valid(folder: str) -> None:
    names = [path.stem for path in (ROOT / folder).rglob("*.yaml")]

    assert len(names) >= 6
    command = [sys.executable, "-m", "lm_eval", "validate", "--tasks", ",".join(names), "--include_path", folder]
    assert "valid" in called(*command)


@pytest.mark.slow
def test_a_stock_model_class_gives_our_number(tmp_path: Path) -> None:
    command = documented("data.md", "tiny_ad", "hf-multimodal")
    called(*command, "--limit", str(ROWS), "--device", "cpu", "--output_path", str(tmp_path))

    (results,) = tmp_path.rglob("results_*.json")
    found = json.loads(results.read_text())["results"]["tiny_ad"]
    expected = ours("tiny_ad", ROWS)
    assert 0.1 < expected < 0.9 and expected in [pytest.approx(value) for value in found.values()]


@pytest.mark.slow
def test_our_model_class_takes_a_users_download_as_metadata(tmp_path: Path) -> None:
    write_dcl(tmp_path)
    command = [
        word.replace("tiny_ad", "dcl_ad") for word in documented("data.md", "--model hpa-bench", "hpa_bench.runner")
    ]
    metadata = json.dumps({"data_root": str(tmp_path), "rules": "strict"})
    output = called(*command, "--metadata", metadata, "--limit", "2")

    assert "|dcl_ad" in output.replace(" ", "")


@pytest.mark.parametrize("page", ["data.md", "safety-sets.md"])
def test_no_documented_command_leaves_the_chat_template_out(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^lm_eval run .*$", text, re.MULTILINE)

    assert commands and all("--apply_chat_template" in command and "--model " in command for command in commands)
