"""What a run's manifest says, gathered from its spec, its data and the machine."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpa_bench.config import split_settings
from hpa_bench.engines.base import engines
from hpa_bench.judges.base import judges, make_judge
from hpa_bench.models.config import BESIDE_WEIGHTS
from hpa_bench.models.loading import checkpoint_folder
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
        method_kind=spec.method.kind,
        changed=dict(spec.changed or {}),
        tasks=suite.tasks,
        stages=[list(tasks) for tasks in stages],
        safety_sets=suite.safety_sets,
        benign_sets=suite.benign_sets,
        judges=[judge.label for judge in judges],
        verdicts={judge.label: judge.vocabulary.said() for judge in judges},
        training=suite.training.model_dump(mode="json"),
    )


def sources(spec: RunSpec, model: Path | None, unaligned: Path | None = None) -> dict[str, Any]:
    """Return the digests of what decides a run beside its settings and data: its plugins and its models' files.

    Args:
        spec: the run.
        model: the folder of the checkpoint that it starts from; None leaves it out.
        unaligned: that of the model before its alignment, where the method needs it; None leaves it out.
    """
    suite = spec.suite
    used: list[type] = [spec.method, *(judges.get(split_settings(judge)[0]) for judge in suite.judges)]
    if suite.evaluation.engine != "auto":
        used.append(engines.get(suite.evaluation.engine))
    files: dict[str, Path] = {}
    for kind in used:
        module = sys.modules[kind.__module__]
        # What the package ships is of its version.
        if module.__file__ and module.__name__.partition(".")[0] != "hpa_bench":
            file = Path(module.__file__)
            files[file.name if file in spec.plugins else module.__name__] = file
    plugins = {name: _digest(path) for name, path in files.items()}
    folders = {"model_digest": model, "unaligned_digest": unaligned}
    return {"plugins": plugins} | {key: model_digest(folder) for key, folder in folders.items() if folder}


def model_digest(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of a checkpoint's files: weights, configuration and processor."""
    names = {file for pattern in ("*.safetensors", *BESIDE_WEIGHTS) for file in folder.glob(pattern)}
    digest = hashlib.sha256()
    for file in sorted(names):
        digest.update(f"{file.name} {_digest(file)}\n".encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    state = path.stat()
    return _digest_of(path, state.st_size, state.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    """Return a file's SHA-256, computed once as long as its size and its time of change stay."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_manifest(spec: RunSpec, data: RunData, model: Path, device: str, engine: str) -> Manifest:
    """Return the manifest of a run that is about to start from a model's folder, with an engine."""
    unaligned = checkpoint_folder(name) if (name := spec.unaligned_path()) else None
    digests = sources(spec, model, unaligned)
    here = environment(device, engines.get(engine).packages)
    found = {"poisoned": data.poisoned, "data": data.hashes, **digests, **dict(here)}
    return planned_manifest(spec, spec.stages).model_copy(update=found)
