"""Runs that do not measure the whole accuracy matrix: what they score, what falls away, and what a report says."""

from pathlib import Path

import pytest

from hpa_bench import load_runs, run
from hpa_bench.report import write_report
from hpa_bench.report.exported import write_csv
from hpa_bench.report.lm_eval_files import write_lm_eval
from hpa_bench.results.publish import publish
from hpa_bench.results.published import find_published
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import read_runs
from hpa_bench.spec import RunOptions, make_spec
from tests.support.published import Committed
from tests.support.suites import write_suite

ALL = {"colours", "shades", "tints", "harm", "harmless"}
JUDGED = {"harm", "harmless"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("suite")
    return str(write_suite(folder, tasks=["colours", "shades", "tints"], cpu_threads=1))


def made(suite: str, matrix: str, folder: Path) -> RunFolder:
    return run(suite, "seqft", settings=[f"evaluation.matrix={matrix}"], out=folder / matrix, device="cpu")


def scored(folder: RunFolder) -> list[set[str]]:
    return [{file.stem for file in (stage.path / "responses").iterdir()} for stage in folder.finished_stages()]


@pytest.mark.slow
def test_what_is_scored_and_what_falls_away(suite: str, tmp_path: Path) -> None:
    full, seen, diagonal = (made(suite, matrix, tmp_path) for matrix in ("full", "seen", "diagonal"))

    assert scored(full) == [ALL] * 4
    assert scored(seen) == [ALL, JUDGED | {"colours"}, JUDGED | {"colours", "shades"}, ALL]
    assert scored(diagonal) == [ALL, JUDGED | {"colours"}, JUDGED | {"shades"}, ALL]
    for name in ALL:
        file = Path("stage3") / "responses" / f"{name}.jsonl"
        assert (full.path / file).read_bytes() == (seen.path / file).read_bytes() == (diagonal.path / file).read_bytes()
    frame = load_runs(tmp_path)
    last = frame[(frame["stage"] == 3) & (frame["kind"] == "task")].groupby("run")["metric"].agg(set)
    lost = {Path(name).name: last[str(full.path)] - metrics for name, metrics in last.items()}
    assert lost == {"full": set(), "seen": {"fwt"}, "diagonal": {"fwt", "maa", "forgetting"}}
    half = frame[(frame["stage"] == 1) & (frame["set"] == "all") & (frame["metric"] == "accuracy")]
    assert [Path(name).name for name in half["run"]] == ["full"], "a mean over some tasks is none over all"


def _stages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*-stage?"))


@pytest.mark.slow
def test_a_report_and_what_is_published_say_so(suite: str, tmp_path: Path) -> None:
    folder = made(suite, "diagonal", tmp_path)
    page = write_report(read_runs([folder]), tmp_path / "report").read_text()
    said = (
        "evaluation.matrix is diagonal: of the tasks, those just trained alone are scored between the first and the"
        " last stage, so there is no MAA, Forgetting, FWT."
    )

    assert said in page and said in (tmp_path / "report" / "tables" / "main.md").read_text()
    stages = (tmp_path / "report" / "tables" / "stages.csv").read_text()
    assert "undefined: evaluation.matrix=diagonal leaves it out" in stages
    write_lm_eval(read_runs([folder]), tmp_path / "lm_eval")
    write_csv(read_runs([folder]), tmp_path / "csv")
    written = [{path.name.split("_")[1] for path in stage.glob("samples_*")} for stage in _stages(tmp_path / "lm_eval")]
    assert written == scored(folder)
    publish(Committed(folder), tmp_path / "out")
    own, there = read_runs([folder])[0], read_runs([*find_published(tmp_path / "out")])[0]
    assert {key: measure.value for key, measure in own.measures.items()} == {
        key: measure.value for key, measure in there.measures.items()
    }
    assert [stage.cost for stage in there.stages] == [stage.cost for stage in own.stages]


def test_a_full_matrix_is_what_earlier_runs_had(suite: str) -> None:
    plain, full = (make_spec(RunOptions(suite, "seqft", settings=s)) for s in ([], ["evaluation.matrix=full"]))
    seen = make_spec(RunOptions(suite, "seqft", settings=["evaluation.matrix=seen"]))

    assert "matrix" not in plain.identity()["suite_config"]["evaluation"]
    assert plain.default_folder(Path()) == full.default_folder(Path()) != seen.default_folder(Path())
    assert plain.identity() == full.identity() != seen.identity()
