"""What a run finds of an earlier attempt: there, and as it was written, before the run goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpa_bench.errors import UserError
from hpa_bench.results.seals import Sealed, check, check_folder, read_seal, seal_of

if TYPE_CHECKING:
    from hpa_bench.results.run_folder import RunFolder, StageFolder

METHOD = "method"
CALIBRATION = "calibration"


def seal_of_stage(run: RunFolder, stage: StageFolder) -> Mapping[str, Sealed]:
    """Return the seal of what later stages and reports read of a finished stage, by path in the run folder.

    That is its responses, the method's own files and the calibration samples; weights and state have their own seals.
    """
    folders = (stage.path / "responses", run.path / METHOD, run.path / CALIBRATION)
    return seal_of(run.path, [file for folder in folders for file in folder.rglob("*") if file.is_file()])


def check_kept(run: RunFolder, finished: int) -> None:
    """Check what earlier attempts left, before this one goes on from it.

    Args:
        run: the run.
        finished: stages that are finished, stage 0 included.

    Raises:
        UserError: a file is missing, cut or altered; the message names it and says what to do.
    """
    begun = run.stage(finished)
    working = any(path.exists() for path in (begun.trainer, begun.adapter, begun.state))
    for index in range(finished):
        stage = run.stage(index)
        remedy = "put it back as it was, or start again with --no-resume"
        seal = read_seal(stage.path / "DONE", remedy)
        if working or index < finished - 1:  # The method may have changed its own files since.
            seal = {name: known for name, known in seal.items() if not name.startswith(f"{METHOD}/")}
        check(run.path, seal, remedy)
        for folder in (stage.weights, stage.state):
            check_folder(folder, remedy)
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
