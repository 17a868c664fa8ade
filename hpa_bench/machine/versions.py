"""Which versions are installed here, of what decides results."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("hpa-bench", "torch", "transformers", "peft", "lm-eval", "accelerate", "datasets", "numpy")


def versions(further: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of the packages that decide results, and of further ones that are installed."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    for name in further:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def differences(expected: Mapping[str, str]) -> str:
    """Return what is of another version here, as in "torch 2.11.0 instead of 2.12.0"; "" where all is the same.

    Args:
        expected: as `versions` returned it, on another machine.
    """
    here = versions()
    others = [name for name in here if here[name] != expected.get(name)]
    return ", ".join(f"{name} {here[name]} instead of {expected.get(name, 'none')}" for name in others)
