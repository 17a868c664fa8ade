"""Portable numerics: the same digits whatever kernels a processor would choose, and a sentence where that is unsure."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_bench.machine import numerics
from hpa_bench.machine.numerics import PORTABLE, VARIABLES, cpu, doubts, pin

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) @ 2.20GHz: fast
flags\t\t: fpu avx2 sse2 sse4_2 avx512f fma amx_tile f16c xavx avx

processor\t: 1
model name\t: another
flags\t\t: avx
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve2 i8mm bf16 aes fphp asimdhp\n"

SSE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
"""Variables that make a processor's libraries choose other kernels, as an older processor's would."""


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # So that it is put back, whatever a test sets.
        monkeypatch.delenv(name)


def test_kernels_are_chosen_before_torch_is_loaded_and_not_after(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert sys.modules["torch"] is torch
    pin("portable")
    assert not set(PORTABLE) & set(os.environ)

    monkeypatch.delitem(sys.modules, "torch")
    pin("native")
    assert not set(PORTABLE) & set(os.environ)
    pin("portable")
    assert {name: os.environ.get(name) for name in PORTABLE} == PORTABLE


def test_digits_are_in_doubt_where_torch_was_loaded_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(numerics, "CPU_INFO", Path("no such file"))

    assert str(doubts("cpu", True)).endswith(
        "torch was loaded before its kernels could be chosen; set ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"
        " MKL_CBWR=COMPATIBLE before Python starts."
    )

    for name, value in PORTABLE.items():
        monkeypatch.setenv(name, value)
    assert doubts("cpu", True) is None
    assert str(doubts("cpu", False)).endswith(
        "this torch is without oneDNN, or its products are summed in another order than is expected."
    )


@pytest.mark.parametrize(
    ("device", "machine", "flags", "why"),
    [
        (
            "cpu",
            "aarch64",
            "flags : avx2",
            "this processor is of the kind aarch64, and portable numerics are of x86-64",
        ),
        ("cpu", "x86_64", "flags\t\t: fpu sse4_2 avx", "this processor has no AVX2"),
        ("cuda:0", "x86_64", "flags : avx2", "it runs on cuda:0, and portable numerics are of CPUs"),
    ],
)
def test_digits_are_in_doubt_on_other_machines(
    device: str, machine: str, flags: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : x\n{flags}\n")
    monkeypatch.setattr(numerics, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name, value in PORTABLE.items():
        monkeypatch.setenv(name, value)

    assert doubts(device, True) == f"The digits of this run may differ from those of other machines: {why}."


def test_an_x86_processor_by_its_first_core() -> None:
    model, sets = cpu(X86)

    assert model == "Intel(R) Xeon(R) @ 2.20GHz: fast"
    assert sets == ("amx_tile", "avx", "avx2", "avx512f", "f16c", "fma", "sse4_2")


def test_an_arm_processor_has_features_and_no_model() -> None:
    assert cpu(ARM) == (None, ("asimd", "asimdhp", "bf16", "fphp", "i8mm", "sve2"))


@pytest.mark.parametrize(
    ("info", "expected"),
    [("", (None, None)), ("model name\t:\n", (None, None)), ("flags : fpu\n", (None, ())), ("no colon", (None, None))],
)
def test_what_is_not_told_is_unknown(info: str, expected: tuple[object, object]) -> None:
    assert cpu(info) == expected


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="portable numerics are of x86-64")
def test_weights_are_equal_bit_for_bit_whatever_kernels_a_processor_would_choose(tmp_path: Path) -> None:
    portable = weights(tmp_path / "portable", "portable", {})
    varied = weights(tmp_path / "varied", "portable", SSE)
    native = weights(tmp_path / "native", "native", SSE)

    assert varied == portable
    assert native != portable, "the variables change nothing here, so that equal weights would show nothing"
    said = json.loads((tmp_path / "varied" / "manifest.json").read_text())["numerics"]
    assert said["cpu_capability"] == "AVX2" and said["threads"] == 1
    assert PORTABLE.items() <= said["variables"].items()
    assert said["products"] == "oneDNN"


def weights(folder: Path, kind: str, variables: dict[str, str]) -> str:
    """Return the SHA-256 of the weights that a short run trains in a process of its own."""
    settings = [f"numerics={kind}", "tasks=[tiny_ad]", "safety_sets=[]", "benign_sets=[]", "evaluation.limit=2"]
    command = [sys.executable, "-m", "hpa_bench", "run", "--method", "seqft", "--device", "cpu", "--no-report"]
    command += ["--out", str(folder), "--set", "training.epochs=1", "--set", "training.limit=64"]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, env={**os.environ, **variables}, capture_output=True, timeout=300)
    (file,) = folder.glob("stage1/weights/model.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()
