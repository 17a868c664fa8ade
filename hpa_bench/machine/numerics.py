"""Portable numerics: a CPU's kernels chosen so that every x86-64 processor with AVX2 rounds alike."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
"""What torch's own kernels, oneDNN and MKL read as they load. `COMPATIBLE` is the one mode of MKL that promises equal
digits on processors of several makers (Intel's oneMKL developer guide, "Conditional Numerical Reproducibility")."""
VARIABLES = (*PORTABLE, "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE")
"""Environment variables that choose the kernels of torch and of its libraries."""
CPU_INFO = Path("/proc/cpuinfo")
# Vector instructions and those of half precision and of matrices: kernels are chosen by them.
_INSTRUCTION_SET = re.compile(r"sse4_2|f16c|fma|avx.*|amx.*|asimd.*|sve.*|bf16|i8mm|fphp")


def pin(numerics: str) -> None:
    """Choose the kernels, where a run is to be portable; once torch is loaded it is too late, and nothing changes.

    Args:
        numerics: of a suite, "portable" or "native".
    """
    if numerics == "portable" and "torch" not in sys.modules:
        os.environ.update(PORTABLE)


def doubts(device: str, products: bool) -> str | None:
    """Return why a portable run may have other digits here than elsewhere, in one sentence; None where it may not.

    Args:
        device: the torch device that the run takes.
        products: whether torch's matrix products are oneDNN's (`hpa_bench.machine.products`).
    """
    if device != "cpu":
        why = f"it runs on {device}, and portable numerics are of CPUs"
    elif platform.machine().lower() not in ("x86_64", "amd64"):
        why = f"this processor is of the kind {platform.machine()}, and portable numerics are of x86-64"
    elif (sets := cpu()[1]) is not None and "avx2" not in sets:
        why = "this processor has no AVX2"
    elif any(os.environ.get(name) != value for name, value in PORTABLE.items()):
        variables = " ".join(f"{name}={value}" for name, value in PORTABLE.items())
        why = f"torch was loaded before its kernels could be chosen; set {variables} before Python starts"
    elif not products:
        why = "this torch is without oneDNN, or its products are summed in another order than is expected"
    else:
        return None
    return f"The digits of this run may differ from those of other machines: {why}."


def cpu(info: str | None = None) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the model of a processor and those of its instruction sets that kernels are chosen by; None unknown.

    Args:
        info: the text of /proc/cpuinfo, as x86 and ARM write it; by default this machine's, empty where it has none.
    """
    if info is None:
        info = CPU_INFO.read_text(encoding="utf-8", errors="replace") if CPU_INFO.exists() else ""
    values: dict[str, str] = {}
    for line in info.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            values.setdefault(name.strip(), value.strip())
    flags = values.get("flags", values.get("Features"))
    found = None if flags is None else tuple(sorted(filter(_INSTRUCTION_SET.fullmatch, flags.split())))
    return values.get("model name") or None, found
