"""What a run finds of an earlier attempt: there, and as it was written, before the run goes on from it or redoes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import set_aside_from
from hpa_bench.results.seals import SEAL, check, check_folder, sealed_names
from hpa_bench.results.whole import METHOD, PUT_BACK, check_method, check_results

if TYPE_CHECKING:
    from pathlib import Path

    from hpa_bench.results.run_folder import RunFolder, StageFolder


CALIBRATION = "calibration"


def check_kept(run: RunFolder) -> None:
    """Check what earlier attempts left, before this one goes on from it.

    Raises:
        UserError: a file is missing, cut or altered; the message names it and says what to do.
    """
    stages = run.finished_stages()
    begun = run.stage(len(stages))
    marks = [path for path in run.path.glob("stage*/DONE") if path.parent.name.removeprefix("stage").isdecimal()]
    if len(marks) > len(stages):
        raise UserError(f"{begun.path / 'DONE'} is missing, and a later stage's is there: {PUT_BACK}.")
    _check_finished(run, stages)
    if stages and not any(path.exists() for path in (begun.trainer, begun.adapter, begun.state)):
        check_method(run, stages[-1])  # A stage at work may have changed them since.
    for folder in (begun.weights, begun.state) if begun.state.exists() else (begun.adapter,):
        check_folder(folder, f"delete {folder}, and the same command makes it again")
    if begun.state.exists():
        _check_adapter(begun, "what is left of the stage's update is then not measured")


def _check_finished(run: RunFolder, stages: Sequence[StageFolder]) -> None:
    """Check what finished stages left, but for the method's own files, of which the last one knows how they were."""
    check_results(run, stages)
    for stage in stages:
        for folder in (stage.weights, stage.state):
            check_folder(folder, PUT_BACK)
        _check_adapter(stage, "this run does not need it any more")  # But it may be loaded.
    for calibration in (run.path / CALIBRATION, *sorted(run.path.glob(f"{CALIBRATION}-*[0-9]"))):
        check_folder(calibration, f"delete {calibration}, and the same command makes it again, or {PUT_BACK}")


def _check_adapter(stage: StageFolder, without: str) -> None:
    """Check a trained adapter, but for what the method remembered in it, which is dropped once its state is there."""
    remedy = f"delete {stage.adapter}, {without}"
    check(stage.adapter, stage.adapter / SEAL, remedy, lambda name: not name.startswith("method/"))


def check_redo(run: RunFolder, index: int, stages: int, mergeable: bool) -> None:
    """Check that a run can be redone from a stage on.

    Args:
        run: the run, as an earlier attempt left it.
        index: the first stage that is redone.
        stages: training stages of the run, T.
        mergeable: whether the method's stages leave weights at all.

    Raises:
        UserError: there is no such stage, or the one before it is not finished, or what it left was not kept, or is
            not as it was.
    """
    if not 1 <= index <= stages:
        trained = f"stages 1 to {stages}" if stages else "no stage"
        raise UserError(f"--from-stage {index} is none: this run trains {trained}; to redo all, give --no-resume.")
    finished = run.finished_stages()
    if index > len(finished):
        done = f"stage {len(finished) - 1} is the last that is finished" if finished else "no stage is finished"
        raise UserError(
            f"--from-stage {index} starts from what stage {index - 1} left, and in {run.path} {done}: leave"
            " --from-stage out to go on from there."
        )
    check_there(run, index - 1, mergeable, f"--from-stage {index} starts from it")
    _check_finished(run, finished[:index])
    remedy = f"--from-stage {index} needs it as it was then; name another stage, or start again with --no-resume"
    check_method(run, finished[index - 1], remedy)


def redo(run: RunFolder, index: int) -> Path:
    """Set a run's stages aside from one on, and what the method wrote in them; see `check_redo`, which comes before.

    Returns:
        The folder where they are now, beside the run's.
    """
    kept = sealed_names(run.stage(index - 1).path / "DONE", PUT_BACK)
    own = [file for file in (run.path / METHOD).rglob("*") if file.is_file()]
    # Where an older mark has no seal, nobody knows which files later stages wrote.
    return set_aside_from(run, index, [file for file in own if kept and str(file.relative_to(run.path)) not in kept])


def check_there(run: RunFolder, index: int, mergeable: bool, needed: str) -> None:
    """Refuse to go on from theta_0 where the weights that a stage left are gone.

    Args:
        run: the run.
        index: the stage; stage 0 leaves no weights.
        mergeable: whether the method's stages leave weights at all.
        needed: what for, for the message.

    Raises:
        UserError: a stage's weights, or what the method remembers of it, are not there.
    """
    stage = run.stage(index)
    kept = ({"weights": stage.weights} if index and mergeable else {}) | {"state of the method": stage.state}
    for what, path in kept.items():
        if not path.exists():
            raise UserError(
                f"{path} is gone, the {what} after stage {index}, and {needed}: put it back, or start again with"
                " --no-resume. Only the last stage's is kept, unless training.keep_weights=true."
            )
