"""The machine as a manifest says it."""

import platform
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from hpa_bench.machine.numerics import VARIABLES
from hpa_bench.machine.versions import PACKAGES
from hpa_bench.runner.environment import driver, environment

DRIVER = """NVRM version: NVIDIA UNIX {kind} x86_64 Kernel Module  {number}  Release Build  (dvs-builder@U16)
GCC version:  gcc version 11.4.0 (Ubuntu)
"""


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


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_code_that_no_commit_has_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hpa_bench").mkdir()
    monkeypatch.setattr("hpa_bench.runner.environment.PACKAGE", tmp_path / "hpa_bench")
    assert (environment("cpu").git_commit, environment("cpu").uncommitted) == (None, None), "installed"

    git(tmp_path, "init", "--quiet")
    (tmp_path / "hpa_bench" / "spec.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    first = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "notes.md").write_text("No code.")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "second")
    found = environment("cpu")
    assert (found.git_commit, found.uncommitted) == (first, False), "the last that changed code"

    (tmp_path / "hpa_bench" / "new.py").write_text("")
    assert environment("cpu").uncommitted is True
