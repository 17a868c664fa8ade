"""What a run's manifest says, gathered from its spec, its data and the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpa_bench.judges.base import make_judge
from hpa_bench.results.manifest import FORMAT, Manifest
from hpa_bench.runner.environment import environment

if TYPE_CHECKING:
    from hpa_bench.runner.inputs import RunData
    from hpa_bench.spec import RunSpec


def planned_manifest(spec: RunSpec, stages: Sequence[Sequence[str]]) -> Manifest:
    """Return what is known of a run before its data are read."""
    suite = spec.suite
    judges = [make_judge(judge) for judge in suite.judges]
    return Manifest(
        format=FORMAT,
        **spec.identity(),
        changed=dict(spec.changed or {}),
        tasks=suite.tasks,
        stages=[list(tasks) for tasks in stages],
        safety_sets=suite.safety_sets,
        benign_sets=suite.benign_sets,
        judges=[judge.label for judge in judges],
        verdicts={judge.label: judge.vocabulary.said() for judge in judges},
        training=suite.training.model_dump(mode="json"),
    )


def make_manifest(spec: RunSpec, stages: Sequence[Sequence[str]], data: RunData, device: str) -> Manifest:
    """Return the manifest of a run that is about to start."""
    found = {"poisoned": data.poisoned, "data": data.hashes, **dict(environment(device))}
    return planned_manifest(spec, stages).model_copy(update=found)
