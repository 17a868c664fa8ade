"""What a run finds of an earlier attempt."""

from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.seals import seal
from hpa_bench.runner.kept import check_kept, check_there, seal_of_stage


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
    put(run.path / "calibration" / "safety.jsonl")
    for index in range(2):
        stage = run.stage(index)
        put(stage.path / "responses" / "ad.jsonl", f"stage {index}")
        put(stage.path / "cost.json")
        put_sealed(stage.state)
        if index:
            put_sealed(stage.weights)
        stage.finish(seal_of_stage(run, stage))
    return run


def refused(run: RunFolder, finished: int = 2) -> str:
    with pytest.raises(UserError) as caught:
        check_kept(run, finished)
    return str(caught.value)


def test_a_stages_seal_is_of_what_others_read(run: RunFolder) -> None:
    assert list(seal_of_stage(run, run.stage(1))) == [
        "calibration/safety.jsonl",
        "method/notes",
        "stage1/responses/ad.jsonl",
    ]


def test_a_run_as_it_was_is_gone_on_with(run: RunFolder) -> None:
    check_kept(run, 2)
    check_kept(RunFolder(run.path / "new"), 0)


@pytest.mark.parametrize(
    "name",
    [
        "stage0/responses/ad.jsonl",
        "stage1/responses/ad.jsonl",
        "calibration/safety.jsonl",
        "method/notes",
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


def test_what_nobody_reads_may_change(run: RunFolder) -> None:
    put(run.stage(1).path / "cost.json", "spent more")

    check_kept(run, 2)


@pytest.mark.parametrize("begun", ["trainer", "adapter"])
def test_a_stage_at_work_may_have_changed_the_methods_own_files(begun: str, run: RunFolder) -> None:
    put(run.path / "method" / "notes", "of stage 2")
    assert "method/notes" in refused(run)

    getattr(run.stage(2), begun).mkdir(parents=True)
    check_kept(run, 2)


def test_of_the_methods_own_files_the_last_stages_seal_counts(run: RunFolder) -> None:
    put(run.path / "method" / "notes", "of stage 1")
    run.stage(1).finish(seal_of_stage(run, run.stage(1)))

    check_kept(run, 2)


def test_an_older_mark_without_a_seal_passes(run: RunFolder) -> None:
    put(run.stage(1).path / "DONE", "")
    put(run.stage(1).path / "responses" / "ad.jsonl", "other")

    check_kept(run, 2)


def test_of_a_begun_stage_the_adapter_is_made_again(run: RunFolder) -> None:
    adapter = run.stage(2).adapter
    put_sealed(adapter).write_text("torn")

    assert refused(run).endswith(f"delete {adapter}, and the same command makes it again.")


def test_once_the_state_is_there_the_adapter_need_not_be_whole(run: RunFolder) -> None:
    stage = run.stage(2)
    put_sealed(stage.adapter).write_text("torn")
    put_sealed(stage.state)
    check_kept(run, 2)

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
