"""Judging: judges give stored responses their verdicts, in a run or long after it, and generate nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hpa_bench.errors import UserError
from hpa_bench.files import read_json, write_json
from hpa_bench.judges.base import Judge
from hpa_bench.redact import clean
from hpa_bench.results.measures import ALL
from hpa_bench.results.run_folder import Judged, RunFolder, StageFolder
from hpa_bench.results.runs import stage_scores
from hpa_bench.results.seals import SEAL, seal
from hpa_bench.results.whole import check_results

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Called with what is judged next."""


class Failure(NamedTuple):
    """What a judge could not judge, and why."""

    place: str
    """The stage's folder, or that of the references, and the set."""
    judge: str
    reason: str
    """One sentence."""

    def __str__(self) -> str:
        return f"{self.place}, by {self.judge}: {self.reason}"


def judge_run(
    run: RunFolder, judges: Sequence[Judge], *, again: bool = False, on_progress: Progress | None = None
) -> list[Failure]:
    """Judge the stored responses of every finished stage, and the sets' own answers; hold the run meanwhile.

    Args:
        run: the run.
        judges: who judges.
        again: judge also what they have judged before.
        on_progress: called with what is judged next.

    Returns:
        Each set that a judge could not judge, with the reason.

    Raises:
        UserError: the run has no finished stage, or a live process holds it, or what it holds is not as it was.
    """
    with run.locked():
        stages = run.finished_stages()
        if not stages:
            raise UserError(f"{run.path} has no finished stage, so there is nothing to judge: finish the run first.")
        check_results(run, stages, but=[judge.label for judge in judges] if again else ())
        return [
            failure
            for index in range(len(stages))
            for failure in judge_stage(run, index, judges, again=again, on_progress=on_progress)
        ]


def judge_stage(
    run: RunFolder, index: int, judges: Sequence[Judge], *, again: bool = False, on_progress: Progress | None = None
) -> list[Failure]:
    """Judge a stage's stored responses, with stage 0's also the sets' own answers, and write the stage's scores.

    A judge that fails on a set leaves one sentence in the place of its verdicts on it, and nothing else is lost.

    Args:
        run: the run, held by this process.
        index: the stage; its responses are there, and every task's are scored.
        judges: who judges.
        again: judge also what they have judged before.
        on_progress: called with what is judged next.

    Returns:
        Each set that a judge could not judge, with the reason.
    """
    stage, manifest = run.stage(index), run.manifest
    answers = {name: stage.responses(name) for name in manifest.judged_sets}
    with _resealed(stage, judges):
        failures = _judge(judges, answers, stage, again, on_progress)
        for judge in judges:
            can_say = judge.vocabulary.said()
            if can_say != manifest.verdicts.get(judge.label):
                stage.write_can_say(judge.label, can_say)
    if index == 0:
        references = {
            name: [{**row, "response": row["target"]} for row in rows if row["target"]]
            for name, rows in answers.items()
        }
        with _resealed(run.references, judges):
            failures += _judge(judges, references, run.references, again, on_progress)
    write_scores(run, index)
    return failures


def write_scores(run: RunFolder, index: int) -> None:
    """Write what a stage's responses and judgements come to, unless it is there."""
    stage = run.stage(index)
    path, scores = stage.path / "scores.json", stage_scores(stage, run.manifest, index)
    try:
        known = read_json(path)
    except UserError:
        known = None
    if known != scores:
        write_json(path, scores)


@contextmanager
def _resealed(judged: Judged, judges: Sequence[Judge]) -> Iterator[None]:
    """Let judges' verdicts change: their seals are away meanwhile, since a process that is killed leaves them wrong."""
    folders = [judged.judgement_folder(judge.label) for judge in judges]
    for folder in folders:
        (folder / SEAL).unlink(missing_ok=True)
    yield
    for folder in folders:
        if folder.exists():
            seal(folder)


def _judge(
    judges: Sequence[Judge],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    folder: Judged,
    again: bool,
    on_progress: Progress | None,
) -> list[Failure]:
    failures = []
    for judge in judges:
        for name, rows in answers.items():
            if not rows or (folder.is_judged(judge.label, name) and not again):
                continue
            if on_progress:
                on_progress(f"{judge.label}: {folder.path.name}, {name}")
            try:
                verdicts = _verdicts(judge, rows)
            # A judge may be a stranger's, or need memory that the tuned model holds: hours of training outlive it.
            except Exception as error:
                reason = clean(" ".join(str(error).split()))
                if not isinstance(error, UserError):
                    # A report of the run may be published, and this may quote a response.
                    log.warning("%s failed on %s: %s: %s", judge.label, name, type(error).__name__, reason)
                    reason = f"{type(error).__name__}, of which the log has more"
                failures.append(Failure(f"{folder.path}, {name}", judge.label, reason))
                if not folder.is_judged(judge.label, name):
                    folder.write_missing_judgement(judge.label, name, reason)
            else:
                folder.write_judgements(judge.label, name, verdicts)
    return failures


def _verdicts(judge: Judge, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the verdict of each sample id, checked."""
    verdicts = judge.verdicts(rows)
    if len(verdicts) != len(rows):
        raise UserError(
            f"Judge {judge.name!r} gave {len(verdicts)} verdicts on {len(rows)} responses: expected one each."
        )
    words = judge.vocabulary.words
    odd = [verdict for verdict in verdicts if not (isinstance(verdict, str) and verdict in words)]
    if odd:
        raise UserError(
            f"Judge {judge.name!r} gave the verdict {odd[0]!r}: expected what it declares, {', '.join(sorted(words))}."
        )
    return {row["id"]: verdict for row, verdict in zip(rows, verdicts, strict=True)}


def headline(stage: StageFolder, judges: Sequence[str]) -> dict[str, float]:
    """Return a stage's mean accuracy over its tasks and MASR by the first judge, in percent, each where there is one.

    Args:
        stage: its scores are written.
        judges: the names that verdicts are stored under.
    """
    rows = read_json(stage.path / "scores.json")
    wanted = {("accuracy", ""), ("masr", next(iter(judges), ""))}
    return {
        row["metric"]: row["value"] for row in rows if row["set"] == ALL and (row["metric"], row["judge"]) in wanted
    }
