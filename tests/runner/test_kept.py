"""What a run finds of an earlier attempt."""

from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.seals import seal
from hpa_bench.results.whole import seal_of_stage
from hpa_bench.runner.kept import check_kept, check_redo, check_there, redo


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
    run = RunFolder(tmp_path / "seed0")
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
    assert refused(run).endswith(f"delete {adapter}, this run does not need it any more.")


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


def test_once_the_state_is_there_the_adapter_may_be_gone_but_not_torn(run: RunFolder) -> None:
    stage = run.stage(2)
    put_sealed(stage.state)
    check_kept(run)
    put_sealed(stage.adapter).write_text("torn")
    without = "what is left of the stage's update is then not measured."
    assert refused(run).endswith(f"delete {stage.adapter}, {without}")
    put_sealed(stage.adapter)

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


@pytest.mark.parametrize(
    ("index", "stages", "sentence"),
    [
        (0, 2, "--from-stage 0 is none: this run trains stages 1 to 2; to redo all, give --no-resume."),
        (3, 2, "--from-stage 3 is none: this run trains stages 1 to 2; "),
        (1, 0, "--from-stage 1 is none: this run trains no stage; "),
        (
            3,
            3,
            "--from-stage 3 starts from what stage 2 left, and in {run} stage 1 is the last that is finished: ",
        ),
    ],
)
def test_a_stage_that_cannot_be_redone(index: int, stages: int, sentence: str, run: RunFolder) -> None:
    with pytest.raises(UserError) as caught:
        check_redo(run, index, stages, mergeable=True)

    assert str(caught.value).startswith(sentence.format(run=run.path))


def test_of_no_run_no_stage_can_be_redone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"and in \S+ no stage is finished: leave --from-stage out"):
        check_redo(RunFolder(tmp_path), 1, 2, mergeable=True)


def redone(run: RunFolder, index: int, stages: int) -> Path:
    check_redo(run, index, stages, mergeable=True)
    return redo(run, index)


def everything(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_what_was_not_kept_is_named_and_nothing_moves(run: RunFolder) -> None:
    run.stage(1).weights.rename(run.path / "elsewhere")
    before = everything(run.path.parent)

    with pytest.raises(UserError) as caught:
        redone(run, 2, 2)

    assert str(caught.value).startswith(
        f"{run.stage(1).weights} is gone, the weights after stage 1, and --from-stage 2 starts from it: put it back"
    )
    assert str(caught.value).endswith("Only the last stage's is kept, unless training.keep_weights=true.")
    assert everything(run.path.parent) == before
    check_redo(run, 2, 2, mergeable=False)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("method/notes", "--from-stage 2 needs it as it was then; name another stage, or start again"),
        ("stage1/weights/model", "put it back as it was, or start again with --no-resume"),
        ("stage0/responses/ad.jsonl", "put it back as it was, or start again with --no-resume"),
    ],
)
def test_what_is_not_as_that_stage_left_it_is_named_and_nothing_moves(name: str, remedy: str, run: RunFolder) -> None:
    (run.path / name).write_text("other")
    before = everything(run.path.parent)

    with pytest.raises(UserError, match=f"^{run.path / name} has .*: {remedy}"):
        redone(run, 2, 2)

    assert everything(run.path.parent) == before


@pytest.fixture
def longer(run: RunFolder) -> RunFolder:
    """The run, its second stage finished and its third begun, with a file that the method wrote on the way."""
    put(run.path / "manifest.json", "{}")
    put(run.path / "method" / "stage2" / "vector")
    stage = run.stage(2)
    put(stage.path / "responses" / "ad.jsonl", "stage 2")
    put_sealed(stage.state)
    put_sealed(stage.weights)
    stage.finish(seal_of_stage(run, stage))
    put_sealed(run.stage(3).adapter)
    return run


def test_later_stages_and_what_the_method_wrote_in_them_are_set_aside(longer: RunFolder) -> None:
    before = everything(longer.path)

    aside = redone(longer, 2, 3)

    assert aside == longer.path.with_name("seed0.aside-1")
    gone = {name for name in before if name.startswith(("stage2/", "stage3/", "method/stage2/"))}
    assert everything(longer.path) == {name: text for name, text in before.items() if name not in gone}
    assert everything(aside) == {name: before[name] for name in (*gone, "manifest.json")}
    check_kept(longer)
    assert redone(longer, 1, 3) == longer.path.with_name("seed0.aside-2")


def test_one_that_was_stopped_while_it_moved_goes_on(longer: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = []
    rename = Path.rename

    def stopped(path: Path, target: Path) -> Path:
        if len(moves) == 2:
            raise KeyboardInterrupt
        moves.append(path.name)
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", stopped)
        redone(longer, 2, 3)
    assert moves == ["vector", "stage3"] and len(longer.finished_stages()) == 3

    redone(longer, 2, 3)

    assert len(longer.finished_stages()) == 2 and not (longer.path / "method" / "stage2" / "vector").exists()
