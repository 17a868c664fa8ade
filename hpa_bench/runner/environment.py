"""The machine as it is: versions, hardware, and what decides how numbers are rounded."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from hpa_bench.machine.numerics import VARIABLES, cpu
from hpa_bench.machine.processes import processes
from hpa_bench.machine.versions import versions
from hpa_bench.results.manifest import Environment, Hardware, Numerics

PACKAGE = Path(__file__).parents[1]
CODE = ("hpa_bench", "baselines", "tasks", "safety_sets")
"""What decides a run's results, in a checkout."""
DRIVER = Path("/proc/driver/nvidia/version")


def environment(device: str, packages: Iterable[str] = ()) -> Environment:
    """Return the versions, the hardware and the time: what may differ between two runs that are the same.

    Args:
        device: the torch device that the run takes.
        packages: those that its engine names.
    """
    return Environment(
        versions=versions(packages),
        git_commit=git_commit(),
        uncommitted=uncommitted(),
        hardware=hardware(device),
        numerics=numerics(device),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def git_commit() -> str | None:
    """Return the last commit that changed the code of this package's checkout; None where it has none."""
    return _git("log", "-1", "--format=%H", "--", *CODE) or None


def uncommitted() -> bool | None:
    """Return whether the code of this package's checkout is another than its commit's; None where it has none."""
    changes = _git("status", "--porcelain", "--", *CODE)
    return None if changes is None else bool(changes)


@cache
def code_digest() -> str:
    """Return a SHA-256 over the code of this package and what comes with it in `CODE`, committed or not."""
    places = [PACKAGE, *(PACKAGE.parent / name for name in CODE[1:])]
    return hashlib.sha256("".join(files_digest(place, ("*.py", "*.yaml")) for place in places).encode()).hexdigest()


def files_digest(folder: Path, patterns: Sequence[str]) -> str:
    """Return a SHA-256 over the names and contents of the files below a folder that fit a pattern."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in folder.rglob(pattern) if file.is_file()}):
        digest.update(f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    """Return what git says of this package's checkout; None where it is installed without one."""
    command = ["git", "-C", str(PACKAGE.parent), *arguments]
    try:
        if not (PACKAGE.parent / ".git").exists():  # Installed below the checkout of something else.
            return None
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def hardware(device: str) -> Hardware:
    """Return the machine, as far as it decides what is computed on a torch device, and how fast."""
    import torch

    on_gpu = device.startswith("cuda")
    model, instruction_sets = cpu()
    return Hardware(
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        driver=driver(_text(DRIVER)) if on_gpu else None,
        cpu=model,
        instruction_sets=instruction_sets,
        machine=platform.machine(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        processes=processes(),
    )


def numerics(device: str) -> Numerics:
    """Return what decides how numbers are rounded here, on a torch device."""
    import torch

    from hpa_bench.machine import products

    chosen = {"products": "oneDNN"} if products.in_force() else {}
    return Numerics(
        device=torch.device(device).type,
        threads=torch.get_num_threads() if device == "cpu" else None,
        torch=version("torch"),
        transformers=version("transformers"),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        **chosen,
    )


def driver(text: str) -> str | None:
    """Return the version of a GPU's driver, from the text of /proc/driver/nvidia/version; None where it has none."""
    found = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return found[1] if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
