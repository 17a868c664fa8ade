"""What `hpa-bench new-suite` writes: validated at once, run by the very command that it prints."""

import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.cli.new_suite import TEST, TRAIN
from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import find_runs
from hpa_bench.suite import Suite


def new_suite(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["new-suite", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return str(result.output)


def commands(said: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in said.splitlines() if line.startswith("  hpa-bench")]


def test_validate_accepts_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    validate, _ = commands(new_suite("mine"))

    result = CliRunner().invoke(app, validate)

    assert result.exit_code == 0, result.output
    assert "Everything that the suite names is there." in result.output
    row = next(line for line in result.output.splitlines() if "mine_colours" in line and "│" in line)
    assert row.replace("│", " ").split() == ["mine_colours", "task", "yes", str(TRAIN), str(TEST), "24", "0", "0"]
    assert "No test sample stands in training" in result.output


@pytest.mark.slow
def test_the_run_that_it_prints_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, run = commands(new_suite("mine"))

    small = ["--set", "tasks=[mine_colours]", "--set", "safety_sets=[]", "--set", "benign_sets=[]", "--no-report"]
    result = CliRunner().invoke(app, [*run, *small])

    assert result.exit_code == 0, result.output
    (made,) = find_runs([tmp_path / "runs" / "mine"])
    rows = made.stage(1).responses("mine_colours")
    assert len(rows) == TEST and all(isinstance(row["in_form"], bool) for row in rows)


def test_it_names_every_key_that_a_reader_will_change(tmp_path: Path) -> None:
    new_suite("mine", "--out", str(tmp_path / "here"))

    written = yaml.safe_load((tmp_path / "here" / "mine.yaml").read_text())

    rare = {
        "data_root",
        "data_folders",
        "rules",
        "chat_template",
        "decoder",
        "cpu_threads",
        "numerics",
        "image_features",
    }
    assert set(Suite.model_fields) - set(written) == rare
    assert all(len(line) <= 120 for line in (tmp_path / "here" / "mine.yaml").read_text().splitlines())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny", "The suite 'tiny' comes with hpa-bench: choose another name."),
        ("../mine", "Bad value for name in the suite '../mine'"),
        ("a b", "Bad value for name in the suite 'a b'"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UserError) as caught:
        new_suite(name)
    assert said in str(caught.value) and list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UserError, match="exists already and is not empty"):
        new_suite("mine", "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
