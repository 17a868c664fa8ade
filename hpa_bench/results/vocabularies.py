"""What the judges of a run can say: as the run folder has it, else as it is known or guessed."""

from __future__ import annotations

from collections.abc import Sequence

from hpa_bench.results.manifest import Manifest
from hpa_bench.results.source import StageSource
from hpa_bench.results.stage_data import StageData
from hpa_bench.verdict import COMPLIANCE, HARM, REFUSALS, Vocabulary

BEFORE_DECLARED = {
    "keyword": REFUSALS,
    "llama_guard": HARM,
    "openai": COMPLIANCE,
    "tiny_compliance": COMPLIANCE,
    "vlguard": REFUSALS,
}
"""This package's judges at the time of manifests of format 1, which do not say what their judges can."""


def judges_of(stages: Sequence[StageSource], manifest: Manifest) -> list[str]:
    """Return the judges of the manifest, the first being the one of the main table, then those added later."""
    return list(dict.fromkeys([*manifest.judges, *(judge for stage in stages for judge in stage.judges())]))


def vocabularies(stages: Sequence[StageSource], data: Sequence[StageData], manifest: Manifest) -> dict[str, Vocabulary]:
    """Return what each judge of a run can say, in the order of `judges_of`.

    That is what stands beside its verdicts, where it was added later, else what the manifest says; in folders that have
    neither, what this package's judges could say then, and of a stranger's judge, what it did say.

    Args:
        stages: finished stages.
        data: the same stages' samples.
        manifest: the run's.
    """
    return {judge: _vocabulary(judge, stages, data, manifest) for judge in judges_of(stages, manifest)}


def _vocabulary(judge: str, stages: Sequence[StageSource], data: Sequence[StageData], manifest: Manifest) -> Vocabulary:
    declared = next(filter(None, (stage.can_say(judge) for stage in stages)), None) or manifest.verdicts.get(judge)
    if declared:
        return Vocabulary.read(declared)
    name = judge.partition("-")[0]  # A label is a judge's name with its options.
    if name in BEFORE_DECLARED:
        return Vocabulary(BEFORE_DECLARED[name])
    verdicts = (given for stage in data for (by, _), given in stage.verdicts.items() if by == judge)
    return Vocabulary.of_said(verdict for given in verdicts for verdict in given)
