"""What a run finds of an earlier attempt."""

from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.seals import seal
from hpa_bench.results.whole import seal_of_stage
from hpa_bench.runner.kept import check_kept, check_there


def put(path: Path, text: str = "whole") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def put_sealed(folder: Path) -> Path:
    file = put(folder / "model")
    seal(folder)
    return file


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose stages 0 and 1 are finished."""
    run = RunFolder(tmp_path)
    put(run.path / "method" / "notes")
    put_sealed(run.path / "calibration")
    for index in range(2):
        stage = run.stage(index)
        put(stage.path / "responses" / "ad.jsonl", f"stage {index}")
        put(stage.path / "cost.json")
        put_sealed(stage.state)
        if index:
            put_sealed(stage.weights)
        stage.finish(seal_of_stage(run, stage))
    return run


def refused(run: RunFolder) -> str:
    with pytest.raises(UserError) as caught:
        check_kept(run)
    return str(caught.value)


def test_a_run_as_it_was_is_gone_on_with(run: RunFolder) -> None:
    check_kept(run)
    check_kept(RunFolder(run.path / "new"))


@pytest.mark.parametrize(
    "name",
    [
        "stage0/responses/ad.jsonl",
        "stage1/responses/ad.jsonl",
        "method/notes",
        "stage0/cost.json",
        "stage0/state/model",
        "stage1/weights/model",
    ],
)
def test_what_is_altered_or_gone_is_named_with_what_to_do(name: str, run: RunFolder) -> None:
    file = run.path / name
    whole = file.read_text()

    file.write_text(whole.swapcase())
    altered = refused(run)
    file.unlink()
    gone = refused(run)

    assert "has changed since it was written" in altered and "is missing" in gone
    for message in (altered, gone):
        assert message.startswith(str(file))
        assert message.endswith("put it back as it was, or start again with --no-resume.")


def test_calibration_samples_can_be_made_again(run: RunFolder) -> None:
    put(run.path / "calibration" / "model", "torn")

    folder = run.path / "calibration"
    assert f"delete {folder}, and the same command makes it again, or put it back" in refused(run)


def test_a_mark_that_is_gone_from_among_others_is_missed(run: RunFolder) -> None:
    put(run.path / "stage0 as it was" / "DONE")
    check_kept(run)
    (run.stage(0).path / "DONE").unlink()

    assert refused(run).startswith(f"{run.stage(0).path / 'DONE'} is missing, and a later stage's is there: put it")


def test_the_last_adapter_is_whole_but_for_what_the_method_remembered_in_it(run: RunFolder) -> None:
    adapter = run.stage(1).adapter
    put(adapter / "method" / "state")
    file = put_sealed(adapter)
    (adapter / "method" / "state").unlink()
    check_kept(run)

    file.write_text("torn!")
    assert refused(run).endswith(f"delete {adapter}, which this run does not need any more.")


@pytest.mark.parametrize("begun", ["trainer", "adapter"])
def test_a_stage_at_work_may_have_changed_the_methods_own_files(begun: str, run: RunFolder) -> None:
    put(run.path / "method" / "notes", "of stage 2")
    assert "method/notes" in refused(run)

    getattr(run.stage(2), begun).mkdir(parents=True)
    check_kept(run)


def test_of_the_methods_own_files_the_last_stages_seal_counts(run: RunFolder) -> None:
    put(run.path / "method" / "notes", "of stage 1")
    run.stage(1).finish(seal_of_stage(run, run.stage(1)))

    check_kept(run)


def test_an_older_mark_without_a_seal_passes(run: RunFolder) -> None:
    put(run.stage(1).path / "DONE", "")
    put(run.stage(1).path / "responses" / "ad.jsonl", "other")

    check_kept(run)


def test_of_a_begun_stage_the_adapter_is_made_again(run: RunFolder) -> None:
    adapter = run.stage(2).adapter
    put_sealed(adapter).write_text("torn")

    assert refused(run).endswith(f"delete {adapter}, and the same command makes it again.")


def test_once_the_state_is_there_the_adapter_need_not_be_whole(run: RunFolder) -> None:
    stage = run.stage(2)
    put_sealed(stage.adapter).write_text("torn")
    put_sealed(stage.state)
    check_kept(run)

    put_sealed(stage.weights).write_text("torn")
    assert refused(run).endswith(f"delete {stage.weights}, and the same command makes it again.")


@pytest.mark.parametrize(
    ("index", "mergeable", "gone", "what"),
    [
        (1, True, "weights", "weights"),
        (1, True, "state", "state of the method"),
        (0, True, "state", "state of the method"),
        (1, False, "state", "state of the method"),
    ],
)
def test_what_a_stage_left_must_be_there(index: int, mergeable: bool, gone: str, what: str, run: RunFolder) -> None:
    check_there(run, index, mergeable, "stage 2 starts from it")
    path = getattr(run.stage(index), gone)
    path.rename(path.with_name("elsewhere"))

    with pytest.raises(UserError) as caught:
        check_there(run, index, mergeable, "stage 2 starts from it")
    assert str(caught.value).startswith(
        f"{path} is gone, the {what} after stage {index}, and stage 2 starts from it: put it back"
    )


@pytest.mark.parametrize(("index", "mergeable"), [(0, True), (1, False)])
def test_weights_that_no_stage_leaves_are_not_missed(index: int, mergeable: bool, run: RunFolder) -> None:
    if index:
        run.stage(index).weights.rename(run.path / "elsewhere")

    check_there(run, index, mergeable, "")
