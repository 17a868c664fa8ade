"""Which versions are here, and how they differ from another machine's."""

import platform
from importlib.metadata import version

from hpa_bench.machine.versions import differences, versions


def test_versions_of_what_decides_results() -> None:
    here = versions()

    assert here["python"] == platform.python_version() and here["torch"] == version("torch")
    assert differences(here) == ""


def test_further_packages_are_there_where_they_are_installed() -> None:
    assert versions(["pytest", "no-such-package"]) == versions() | {"pytest": version("pytest")}


def test_differences_are_named_with_both_versions() -> None:
    there = versions() | {"torch": "1.0", "peft": "0.1"}
    del there["numpy"]

    assert differences(there) == (
        f"torch {version('torch')} instead of 1.0, peft {version('peft')} instead of 0.1,"
        f" numpy {version('numpy')} instead of none"
    )
