"""`hpa-bench publish`: what is new is added, what cannot be published is left out and named."""

from pathlib import Path

from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.results.run_folder import RunFolder
from tests.support.run_folders import write_run


def published(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["publish", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_runs_are_added_as_they_come(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    write_run(runs, "seqft")
    assert published(runs, "--out", out) == (0, f"{out}/results: 1 runs added, 0 there before, 0 left out.")

    write_run(runs, "hpa")
    unfinished: RunFolder = write_run(runs, "hpa", 1, finished=1)
    code, said = published(runs, "--out", out)

    assert code == 1
    assert f"left out: {unfinished.path} is not finished, so it cannot be published: finish it first." in said
    assert said.endswith("1 runs added, 1 there before, 1 left out.")


def test_texts_of_safety_sets_are_kept_on_demand(tmp_path: Path) -> None:
    write_run(tmp_path / "runs")
    published(tmp_path / "runs", "--out", tmp_path / "without")
    published(tmp_path / "runs", "--out", tmp_path / "with", "--show-unsafe")

    without, with_texts = (next((tmp_path / name).rglob("seed0.parquet")) for name in ("without", "with"))
    assert without.stat().st_size < with_texts.stat().st_size
