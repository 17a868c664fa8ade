"""`hpa-bench list`: what there is to choose from."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hpa_bench.cli import options
from hpa_bench.errors import UserError
from hpa_bench.redact import clean
from hpa_bench.registry import Registry


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    suites = "suites"
    judges = "judges"
    engines = "engines"
    launchers = "launchers"
    observers = "observers"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.methods,
    plugin: options.Plugins = [],  # noqa: B006
) -> None:
    """List methods, suites, judges, engines, launchers or observers; a broken plugin is listed with its exception."""
    entries = _suites() if kind is Kind.suites else _registered(kind, plugin)
    for name, text in entries:
        print(clean(f"{name:<20} {text}"))


def _suites() -> list[tuple[str, str]]:
    from hpa_bench.suite import bundled_suites, read_suite

    descriptions = {name: read_suite(name)[0].get("description") or "" for name in bundled_suites()}
    return [(name, text.strip().partition("\n")[0]) for name, text in descriptions.items()]


def _registered(kind: Kind, plugins: Sequence[Path]) -> list[tuple[str, str]]:
    """Return names and first lines: the registered ones in order, then the plugin files that cannot be used."""
    group, broken = f"hpa_bench.{kind}", []
    # To list names takes no base class, and so none of what the base classes import.
    registry: Registry[Any] = Registry(kind.removesuffix("s"), group, object)
    if plugins:
        from hpa_bench.plugins import DOORS, load_plugins

        registry = next(door for door in DOORS if door.group == group)
        for path in plugins:
            try:
                load_plugins([path])
            except UserError as error:
                broken.append((path.name, f"BROKEN: {error}"))
    entries = []
    for name in registry.names():
        try:
            text = registry.describe(name)
        except UserError as error:
            text = f"BROKEN: {error}"
        entries.append((name, text))
    return entries + broken
