"""What of a run must be as it was written, before anybody reads it."""

from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import read_runs
from hpa_bench.results.seals import seal
from hpa_bench.results.whole import check_method, check_results, seal_of_stage
from tests.support.run_folders import write_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose stages, verdicts and thumbnails are sealed."""
    run = write_run(tmp_path)
    (run.path / "method").mkdir()
    (run.path / "method" / "notes").write_text("whole")
    (run.path / "thumbnails").mkdir()
    (run.path / "thumbnails" / "toy_ad.jsonl").write_text("")
    seal(run.path / "thumbnails")
    for stage in run.finished_stages():
        for judge in stage.judges():
            seal(stage.judgement_folder(judge))
        stage.finish(seal_of_stage(run, stage))
    return run


def refused(run: RunFolder) -> str:
    with pytest.raises(UserError) as caught:
        check_results(run, run.finished_stages())
    return str(caught.value)


def test_a_stages_seal_is_of_what_others_read(run: RunFolder) -> None:
    names = list(seal_of_stage(run, run.stage(1)))

    assert names[:2] == ["manifest.json", "method/notes"]
    assert names[2:4] == ["stage1/cost.json", "stage1/responses/toy_ad.jsonl"]
    assert all(name.startswith("stage1/responses/") for name in names[3:])


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "stage1/cost.json",
        "stage3/responses/toy_ad.jsonl",
        "stage0/judgements/keyword/toy_unsafe_text.jsonl",
        "thumbnails/toy_ad.jsonl",
    ],
)
def test_what_a_report_reads_is_as_it_was(name: str, run: RunFolder) -> None:
    check_results(run, run.finished_stages())
    (run.path / name).write_bytes((run.path / name).read_bytes() + b"\n")

    assert refused(run).startswith(f"{run.path / name} has ")
    with pytest.raises(UserError, match=name):
        read_runs([run])


def test_verdicts_can_be_made_again(run: RunFolder) -> None:
    folder = run.stage(2).judgement_folder("keyword")
    next(folder.glob("*.jsonl")).unlink()

    assert refused(run).endswith(f"delete {folder}, and `hpa-bench judge` makes it again.")
    check_results(run, run.finished_stages(), but=["keyword"])


def test_the_methods_own_files_are_no_result(run: RunFolder) -> None:
    (run.path / "method" / "notes").write_text("other")

    check_results(run, run.finished_stages())
    with pytest.raises(UserError, match="notes has changed since it was written"):
        check_method(run, run.stage(3))
