"""`hpa-bench export`: each form is written where it is asked for, and an unknown one is refused."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from tests.support.hub import TOKEN, Hub, serving
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


def uploaded(tmp_path: Path, hub: Hub, *options: str, token: str = TOKEN) -> CompletedProcess[str]:
    """Run `export --upload` against a stand-in of the hub, whose address the hub's client reads when it is imported."""
    write_run(tmp_path / "runs")
    asked = ["export", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--upload", "lab/cvit", *options]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "hpa_bench", *asked]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_an_upload_is_private_and_whole(tmp_path: Path) -> None:
    with serving() as hub:
        done = uploaded(tmp_path, hub, "--to", "hub")

    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/datasets/lab/cvit" in done.stdout.replace("\n", "")
    (made,) = hub.created
    assert (made["type"], made["visibility"]) == ("dataset", "private")
    written = tmp_path / "out" / "dataset"
    files = {str(file.relative_to(written)): file.read_bytes() for file in written.rglob("*") if file.is_file()}
    assert hub.files == files and "README.md" in files and "results.parquet" in files


@pytest.mark.slow
def test_an_upload_that_is_refused_says_why_and_where_the_files_are(tmp_path: Path) -> None:
    with serving() as hub:
        done = uploaded(tmp_path, hub, "--to", "hub", token="hf_wrong")

    assert done.returncode == 2 and not hub.files
    (said,) = done.stderr.splitlines()
    assert "401" in said and "hf auth login" in said and str(tmp_path / "out" / "dataset") in said
    assert (tmp_path / "out" / "dataset" / "README.md").exists()


def test_another_form_is_not_uploaded(tmp_path: Path) -> None:
    asked = ["export", str(tmp_path), "--out", str(tmp_path / "out"), "--upload", "lab/cvit", "--to", "csv"]
    done = CliRunner().invoke(app, asked)

    assert "--upload is for --to hub" in str(done.exception)
    assert not (tmp_path / "out").exists()
