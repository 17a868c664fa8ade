"""What of a run must be as it was written: each finished stage seals it, and whoever reads it checks it before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hpa_bench.results.manifest import MANIFEST
from hpa_bench.results.seals import Sealed, check, check_folder, seal_of

if TYPE_CHECKING:
    from hpa_bench.results.run_folder import RunFolder, StageFolder

METHOD = "method"
"""The folder of the method's own files."""
PUT_BACK = "put it back as it was, or start again with --no-resume"


def seal_of_stage(run: RunFolder, stage: StageFolder) -> Mapping[str, Sealed]:
    """Return the seal of what later stages and reports read of a finished stage, by path in the run folder.

    That is the manifest, the stage's responses, costs and record of its update, and the method's own files. Weights,
    state, thumbnails, calibration samples and verdicts, which may be judged again, have seals of their own.
    """
    files = [run.path / MANIFEST, stage.path / "corpus.json", stage.path / "cost.json", stage.update_file]
    for folder in (stage.path / "responses", run.path / METHOD):
        files += folder.rglob("*")
    return seal_of(run.path, [file for file in files if file.is_file()])


def check_results(run: RunFolder, stages: Sequence[StageFolder], but: Sequence[str] = ()) -> None:
    """Check what a report reads of finished stages.

    Args:
        run: the run.
        stages: finished stages of it.
        but: judges whose verdicts are not looked at.

    Raises:
        UserError: a file is missing, cut or altered; the message names it and says what to do.
    """
    for stage in stages:
        check(run.path, stage.path / "DONE", PUT_BACK, lambda name: not name.startswith(f"{METHOD}/"))
    for judged in (*stages, run.references):
        for judge in judged.judges():
            folder = judged.judgement_folder(judge)
            if judge not in but:
                check_folder(folder, f"delete {folder}, and `hpa-bench judge` makes it again")
    check_folder(run.path / "thumbnails", PUT_BACK)


def check_method(run: RunFolder, last: StageFolder, remedy: str = PUT_BACK) -> None:
    """Check the method's own files, of which the last finished stage knows how they were.

    Raises:
        UserError: as `check_results`.
    """
    check(run.path, last.path / "DONE", remedy, lambda name: name.startswith(f"{METHOD}/"))
