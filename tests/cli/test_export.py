"""`hpa-bench export`: each form is written where it is asked for, and an unknown one is refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from tests.support.run_folders import write_run


@pytest.mark.parametrize(
    ("form", "file"),
    [
        ("csv", "results.csv"),
        ("parquet", "results.parquet"),
        ("hub", "dataset/README.md"),
        ("lm-eval", "toy-*-stage3/results_*.json"),
    ],
)
def test_each_form_is_written(form: str, file: str, tmp_path: Path) -> None:
    write_run(tmp_path / "runs")
    done = CliRunner().invoke(app, ["export", str(tmp_path / "runs"), "--to", form, "--out", str(tmp_path / "out")])

    assert done.exit_code == 0, done.output
    assert "1 runs." in done.output
    assert len(list((tmp_path / "out").glob(file))) == 1


def test_another_form_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path), "--to", "xml"])

    assert done.exit_code == 2
    assert "lm-eval" in done.output and not (tmp_path / "export").exists()
