"""The machine as a manifest says it."""

import platform
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest
import torch

from hpa_bench.machine.numerics import VARIABLES
from hpa_bench.runner.environment import PACKAGES, cpu, driver, environment

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) @ 2.20GHz: fast
flags\t\t: fpu avx2 sse2 sse4_2 avx512f fma amx_tile f16c xavx avx

processor\t: 1
model name\t: another
flags\t\t: avx
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve2 i8mm bf16 aes fphp asimdhp\n"
DRIVER = """NVRM version: NVIDIA UNIX {kind} x86_64 Kernel Module  {number}  Release Build  (dvs-builder@U16)
GCC version:  gcc version 11.4.0 (Ubuntu)
"""


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


@pytest.mark.parametrize(("kind", "number"), [("Open Kernel Module for", "550.54.15"), ("", "535.129")])
def test_the_driver_by_its_own_line(kind: str, number: str) -> None:
    assert driver(DRIVER.format(kind=kind, number=number)) == number


@pytest.mark.parametrize("text", ["", "GCC version:  gcc version 11.4.0 (Ubuntu)\n"])
def test_without_a_driver_there_is_no_version(text: str) -> None:
    assert driver(text) is None


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("WORLD_SIZE", "3")

    found = environment("cpu")

    assert found.versions == {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    assert (found.hardware.device, found.hardware.driver, found.hardware.processes) == ("cpu", None, 3)
    assert found.hardware.threads == torch.get_num_threads() and found.hardware.machine == platform.machine()
    assert (found.numerics.device, found.numerics.torch) == ("cpu", version("torch"))
    assert found.numerics.variables == {"MKL_CBWR": "COMPATIBLE"}


def test_the_time_is_now_in_utc() -> None:
    started = datetime.fromisoformat(environment("cpu").started or "")

    assert started.utcoffset() == timedelta(0) and started.microsecond == 0
    assert abs(datetime.now(UTC) - started) < timedelta(minutes=1)
