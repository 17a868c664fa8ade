"""The wheel holds everything: it is built, installed away from the checkout and run from another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


SMALL = ["tasks=[tiny_ad]", "training.limit=16", "evaluation.limit=2", "calibration.task_samples=4"]
SETTINGS = [part for setting in SMALL for part in ("--set", setting)]


def publish_small(source: Path, folder: Path) -> None:
    """Put the results of one small run, of code that is in no checkout, in the place of those that are committed."""
    shutil.rmtree(source / "reports" / "tiny" / "results", ignore_errors=True)
    made = ["run", "--method", "seqft", *SETTINGS, "--no-report", "--out", str(folder / "run")]
    run(source, folder, "-m", "hpa_bench", *made)
    run(source, folder, "-m", "hpa_bench", "publish", str(folder / "run"), "--out", str(source / "reports" / "tiny"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content; the environment's dependencies are used, its checkout is not."""
    folder = tmp_path_factory.mktemp("wheel")
    # A build leaves files beside the sources.
    ignored = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, folder / "source", ignore=ignored)
    publish_small(source, folder)
    pip = [sys.executable, "-m", "pip"]
    build = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(folder / "source"),
    ]
    subprocess.run([*pip, *build], check=True)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import hpa_bench.baselines.seqft as m; print(m.__file__)")

    assert where.startswith(str(installed))


@pytest.mark.slow
def test_the_main_job_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    output = run(installed, tmp_path, "-m", "hpa_bench", "run", "--method", "hpa", *SETTINGS)

    assert "Report:" in output
    reports = list(tmp_path.glob("runs/tiny/hpa-*/seed0/report/report.html"))
    assert len(reports) == 1


@pytest.mark.slow
def test_published_results_come_with_it_and_are_verified(installed: Path, tmp_path: Path) -> None:
    output = " ".join(run(installed, tmp_path, "-m", "hpa_bench", "verify").split())

    assert f"Published: {installed / 'hpa_bench' / 'reports' / 'tiny' / 'results'}/seqft-" in output
    assert "seqft, seed 0, of tiny version" in output
    assert output.endswith("Every response equal to the published run.")
    read = run(installed, tmp_path, "-c", "import hpa_bench; print(len(hpa_bench.load_runs('published')) > 50)")
    assert read == "True\n"
