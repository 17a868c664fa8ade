"""What of all that runs may use works on this machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hpa_bench.engines.base import engines
from hpa_bench.errors import UserError
from hpa_bench.launchers.base import make_launcher
from hpa_bench.machine.disk import make_writable
from hpa_bench.machine.lease import Lease
from hpa_bench.machine.versions import versions
from hpa_bench.runner.trackers import TRACKERS

PORTABLE = """
from hpa_bench.machine.numerics import doubts, pin
pin("portable")
from hpa_bench.machine import products
with products.chosen("portable", "cpu"):
    print(doubts("cpu", products.in_force()) or "")
"""
"""Kernels are chosen before torch is loaded, and so by a process of their own."""
SECONDS = 120
"""For another program to answer."""


@dataclass(frozen=True)
class Finding:
    """One thing that runs may use."""

    what: str
    works: bool
    told: str
    """What is there, or why it does not work and what that means."""


def findings(runs: Path, device: str) -> Iterator[Finding]:
    """Look at this machine, one thing after another.

    Args:
        runs: the folder that holds runs, or will.
        device: the torch device that they would take.
    """
    found = versions()
    yield Finding("Python", True, f"{found.pop('python')} on {platform.platform()}")
    yield Finding("packages", True, ", ".join(f"{name} {number}" for name, number in found.items()))
    yield Finding("processor", True, f"{os.cpu_count()} cores, {_gigabytes(_memory())} of memory")
    yield _gpu()
    yield _tried("portable numerics", _numerics)
    yield _tried("vLLM", _vllm)
    yield _tried("captions (CIDEr, SPICE)", lambda: _packages("pycocoevalcap") or _lacking("hpa-bench[captions]"))
    yield _tried("captions (METEOR, PTB tokens)", _java)
    yield _tried("launcher slurm", lambda: _launcher("slurm", device))
    yield _tried("launcher ray", lambda: _packages("ray") or _lacking("hpa-bench[ray]"))
    yield _tried("trackers", lambda: _packages(*TRACKERS) or _lacking(" or ".join(TRACKERS[:2])))
    yield _tried(f"disk of {runs}", lambda: _disk(runs))
    yield _tried(f"leases in {runs}", lambda: _leases(runs))


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except UserError as error:
        return Finding(what, False, str(error))


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        build = "is a build without CUDA" if torch.version.cuda is None else "finds none: check nvidia-smi"
        return Finding("GPU", False, f"torch {torch.__version__} {build}; runs are made on the CPU")
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = ", ".join(f"{card.name} ({_gigabytes(card.total_memory)})" for card in cards)
    short = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16, so set training.dtype=float32"
    return Finding("GPU", True, f"{names}; CUDA {torch.version.cuda}, {short}")


def _numerics() -> str:
    told = subprocess.run([sys.executable, "-c", PORTABLE], capture_output=True, text=True, timeout=SECONDS)
    doubt = told.stdout.strip() or told.stderr.strip()[-200:]
    if doubt:
        raise UserError(doubt)
    return "hold, so that a CPU's digits are those of other x86-64 machines"


def _vllm() -> str:
    engines.get("vllm").check()
    return f"vllm {version('vllm')}"


def _java() -> str:
    if shutil.which("java") is None:
        raise UserError("no java: METEOR is left out of caption scores; install a Java runtime (default-jre-headless)")
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=SECONDS)
    if told.returncode:
        raise UserError(f"java does not start: {told.stderr.strip().partition(chr(10))[0]}")
    return told.stderr.strip().partition("\n")[0]


def _launcher(name: str, device: str) -> str:
    make_launcher(name).check(device)
    return "reachable"


def _packages(*names: str) -> str:
    """Return those of some packages that are installed, with their versions."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _lacking(what: str) -> str:
    raise UserError(f"not installed: pip install '{what}'" if "[" in what else f"none is installed: pip install {what}")


def _disk(runs: Path) -> str:
    make_writable(runs)
    return f"{_gigabytes(shutil.disk_usage(runs).free)} free"


def _leases(runs: Path) -> str:
    try:
        with TemporaryDirectory(dir=runs, prefix=".doctor-") as folder:
            lease = Lease(Path(folder) / "lease")
            lease.take()
            lease.release()
            source, link = Path(folder) / "file", Path(folder) / "link"
            source.touch()
            try:
                os.link(source, link)
            except OSError as error:
                return f"taken and left, without hard links ({error.strerror}): by exclusive creation"
    except OSError as error:
        raise UserError(f"cannot be taken ({error}): two comparisons on this folder could meet") from None
    return "taken and left, by hard links"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
