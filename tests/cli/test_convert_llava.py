"""`hpa-bench convert-llava`: what it writes is what a suite starts from; what cannot be had is one sentence."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.errors import UserError
from tests.support.llava_parts import write_parts
from tests.support.suites import write_suite


def options(parts: dict[str, Path], out: Path) -> list[str]:
    named = [part for name, path in parts.items() for part in (f"--{name.replace('_', '-')}", str(path))]
    return ["convert-llava", *named, "--out", str(out)]


@pytest.mark.slow
def test_the_command_makes_what_a_suite_starts_from(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, options(write_parts(tmp_path / "parts"), tmp_path / "llava"))

    assert made.exit_code == 0, made.output
    assert str(tmp_path / "llava") in made.output.replace("\n", "")
    suite = write_suite(tmp_path / "suite", model=str(tmp_path / "llava"), safety_sets=[], harmful_data=None)
    checked = CliRunner().invoke(app, ["validate", "--suite", str(suite)])
    assert checked.exit_code == 0, checked.output
    where = ["--suite", str(suite), "--out", str(tmp_path / "runs"), "--device", "cpu"]
    ran = CliRunner().invoke(app, ["run", "--method", "seqft", *where, "--set", "tasks=[colours]"])
    assert ran.exit_code == 0, ran.output


def test_what_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    wrong = parts | {"language_model": tmp_path / "nowhere"}

    with pytest.raises(UserError, match="There is no model folder") as caught:
        CliRunner().invoke(app, options(wrong, tmp_path / "out"), catch_exceptions=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
