"""What `hpa-bench new-method` writes, used as its reader will: tested by pytest, listed, run."""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import find_runs

BIN = Path(sys.executable).parent


def new_method(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["new-method", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    first, *rest = shlex.split(command)
    return subprocess.run([str(BIN / first), *rest], cwd=folder, capture_output=True, text=True, env=dict(os.environ))


@pytest.mark.slow
def test_what_is_written_passes_its_own_test_and_is_listed(tmp_path: Path) -> None:
    new_method("half_of_it", "--out", str(tmp_path))

    listed = shell("hpa-bench list methods --plugin half_of_it.py", tmp_path)
    assert "half_of_it           Keep a share of every update: W0 + share (W1 - W0)." in listed.stdout
    tested = shell("pytest -q -p no:cacheprovider test_half_of_it.py", tmp_path)
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout


@pytest.mark.slow
def test_a_wrong_formula_fails_the_written_test(tmp_path: Path) -> None:
    new_method("half_of_it", "--out", str(tmp_path))
    plugin = tmp_path / "half_of_it.py"
    plugin.write_text(plugin.read_text().replace("w0.float() + self", "w1.float() - self"))

    tested = shell("pytest -q -p no:cacheprovider test_half_of_it.py -k share_of", tmp_path)

    assert tested.returncode == 1, tested.stdout


@pytest.mark.slow
def test_the_commands_that_it_prints_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = new_method("half_of_it", "--out", str(tmp_path / "mine"))
    test, compare = (line.strip() for line in said.splitlines() if line.startswith("  "))
    small = " --jobs 2 --set training.limit=16 --set evaluation.limit=2 --set tasks=[tiny_ad]"
    small += " --set safety_sets=[tiny_unsafe_image] --set benign_sets=[]"

    assert test == f"pytest {tmp_path / 'mine' / 'test_half_of_it.py'}"
    monkeypatch.chdir(tmp_path)
    _, *asked = shlex.split(compare.replace(",hpa", "") + small)
    result = CliRunner().invoke(app, asked)

    assert result.exit_code == 0, result.output
    assert "half_of_it" in result.output and "seqft" in result.output
    found = {run.manifest.method: run.manifest.method_kind for run in find_runs([tmp_path / "runs"])}
    assert found == {"half_of_it": "weights", "seqft": "reference"}


def test_the_method_is_named_after_its_name(tmp_path: Path) -> None:
    new_method("my_LoRA2", "--out", str(tmp_path))

    tree = ast.parse((tmp_path / "my_LoRA2.py").read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["MyLoRA2Config", "MyLoRA2"]


def test_both_files_are_formatted_and_clean(tmp_path: Path) -> None:
    new_method("half_of_it", "--out", str(tmp_path))

    for command in ("check --select E,F,I,B,UP", "format --check"):
        result = shell(f"ruff {command} --isolated --line-length 120 .", tmp_path)
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half-way", "'half-way' cannot name a method: expected a Python name, such as half_way"),
        ("2nd", "cannot name a method"),
        ("class", "cannot name a method"),
        ("_", "cannot name a method"),
        ("../elsewhere", "cannot name a method"),
        ("hpa", r"The method 'hpa' exists already \(from hpa-bench\)"),
        ("torch", "torch.py would hide the Python module 'torch'"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        new_method(name, "--out", str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["half_of_it.py", "test_half_of_it.py"])
def test_nothing_is_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine\n")

    with pytest.raises(UserError, match=rf"{there} exists already: choose another name"):
        new_method("half_of_it", "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine\n"
