"""What a run finds of an earlier attempt: there, and as it was written, before the run goes on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpa_bench.errors import UserError
from hpa_bench.results.seals import SEAL, check, check_folder
from hpa_bench.results.whole import PUT_BACK, check_method, check_results

if TYPE_CHECKING:
    from hpa_bench.results.run_folder import RunFolder


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
    check_results(run, stages)
    if stages and not any(path.exists() for path in (begun.trainer, begun.adapter, begun.state)):
        check_method(run, stages[-1])  # A stage at work may have changed them since.
    for stage in stages:
        for folder in (stage.weights, stage.state):
            check_folder(folder, PUT_BACK)
        # Nobody goes on from it, but it may be loaded; what the method remembered in it is dropped by now.
        remedy = f"delete {stage.adapter}, which this run does not need any more"
        check(stage.adapter, stage.adapter / SEAL, remedy, lambda name: not name.startswith("method/"))
    calibration = run.path / CALIBRATION
    check_folder(calibration, f"delete {calibration}, and the same command makes it again, or {PUT_BACK}")
    # The adapter is no longer needed, nor whole, once the state is there.
    for folder in (begun.weights, begun.state) if begun.state.exists() else (begun.adapter,):
        check_folder(folder, f"delete {folder}, and the same command makes it again")


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
