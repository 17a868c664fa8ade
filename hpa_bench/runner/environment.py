"""The manifest: what was run, on what, with which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpa_bench.judges.base import make_judge
from hpa_bench.machine.processes import processes
from hpa_bench.results.run_folder import FORMAT

if TYPE_CHECKING:
    from hpa_bench.runner.inputs import RunData
    from hpa_bench.spec import RunSpec

IDENTITY = ("suite", "suite_config", "method", "config", "seed", "harmful_ratio", "data")
"""The keys that make two runs the same; versions and hardware may differ."""
PACKAGES = ("hpa-bench", "torch", "transformers", "peft", "lm-eval", "accelerate", "datasets", "numpy")


def planned_manifest(spec: RunSpec, stages: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what is known of a run before its data are read."""
    suite = spec.suite
    return {
        "format": FORMAT,
        **spec.identity(),
        "changed": dict(spec.changed or {}),
        "tasks": suite.tasks,
        "stages": [list(tasks) for tasks in stages],
        "safety_sets": suite.safety_sets,
        "benign_sets": suite.benign_sets,
        "judges": [make_judge(judge).label for judge in suite.judges],
        "training": suite.training.model_dump(mode="json"),
    }


def make_manifest(spec: RunSpec, stages: Sequence[Sequence[str]], data: RunData, device: str) -> dict[str, Any]:
    """Return the manifest of a run that is about to start."""
    return {
        **planned_manifest(spec, stages),
        "poisoned": data.poisoned,
        "data": data.hashes,
        **environment(device),
    }


def environment(device: str) -> dict[str, Any]:
    """Return the versions, the hardware and the time: what may differ between two runs that are the same."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "git_commit": _git_commit(),
        "hardware": _hardware(device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_commit() -> str | None:
    """Return the commit of this package's checkout, or None where it is installed without one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _hardware(device: str) -> dict[str, Any]:
    import torch

    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes(),
    }
