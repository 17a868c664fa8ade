"""`hpa-bench list`: what there is to choose from."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hpa_bench.cli import options
from hpa_bench.errors import UserError
from hpa_bench.registry import Registry


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    suites = "suites"
    judges = "judges"
    engines = "engines"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.methods,
    plugin: options.Plugins = [],  # noqa: B006
) -> None:
    """List methods, suites, judges or engines; a broken plugin is listed with its exception."""
    entries = _suites() if kind is Kind.suites else _registered(kind, plugin)
    for name, text in entries:
        print(f"{name:<20} {text}")


def _suites() -> list[tuple[str, str]]:
    from hpa_bench.suite import bundled_suites, read_suite

    descriptions = {name: read_suite(name)[0].get("description") or "" for name in bundled_suites()}
    return [(name, text.strip().partition("\n")[0]) for name, text in descriptions.items()]


def _registered(kind: Kind, plugins: Sequence[Path]) -> list[tuple[str, str]]:
    """Return names and first lines: the registered ones in order, then the plugin files that cannot be used."""
    broken = []
    for path in plugins:
        from hpa_bench.plugins import load_plugins

        try:
            load_plugins([path])
        except UserError as error:
            broken.append((path.name, f"BROKEN: {error}"))
    registry = _registry(kind)
    entries = []
    for name in registry.names():
        try:
            text = registry.describe(name)
        except UserError as error:
            text = f"BROKEN: {error}"
        entries.append((name, text))
    return entries + broken


def _registry(kind: Kind) -> Registry[Any]:
    """Return the registry of a kind; the others' base classes need not be imported for it."""
    if kind is Kind.judges:
        from hpa_bench.judges.base import judges

        return judges
    if kind is Kind.engines:
        from hpa_bench.engines.base import engines

        return engines
    from hpa_bench.method import methods

    return methods
