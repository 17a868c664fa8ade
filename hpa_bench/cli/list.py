"""`hpa-bench list`: what there is to choose from."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from hpa_bench.cli import options
from hpa_bench.errors import UserError


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
    for name, text in _entries(kind, plugin):
        print(f"{name:<20} {text}")


def _entries(kind: Kind, plugins: options.Plugins) -> list[tuple[str, str]]:
    if kind is Kind.suites:
        from hpa_bench.suite import bundled_suites, read_suite

        return [(name, _first_line(read_suite(name)[0].get("description"))) for name in bundled_suites()]
    from hpa_bench.engines.base import engines
    from hpa_bench.judges.base import judges
    from hpa_bench.method import methods
    from hpa_bench.plugins import load_plugins
    from hpa_bench.registry import Registry

    broken = []
    for path in plugins:
        try:
            load_plugins([path])
        except UserError as error:
            broken.append((path.name, f"BROKEN: {error}"))
    registries: dict[Kind, Registry[Any]] = {
        Kind.methods: methods,
        Kind.judges: judges,
        Kind.engines: engines,
    }
    found = registries[kind]
    entries = []
    for name in found.names():
        try:
            text = _first_line(found.get(name).__doc__)
        except UserError as error:
            text = f"BROKEN: {error}"
        entries.append((name, text))
    return entries + broken


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
