"""`hpa-bench list`: what there is to choose from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hpa_bench.cli import options
from hpa_bench.errors import UserError, unknown
from hpa_bench.redact import clean
from hpa_bench.registry import Registry

REGISTERED = ("methods", "judges", "engines", "launchers", "observers")
"""Kinds of what is registered, as the entry-point groups are called."""
SETS = ("tasks", "safety-sets")
KINDS = (*REGISTERED, "suites", *SETS)


def list_(
    kind: Annotated[
        str, typer.Argument(help=f"What to list: {', '.join(KINDS)}; or, as in `list method hpa`, what to describe.")
    ] = "methods",
    name: Annotated[str, typer.Argument(help="Describe this one: its source and every key that it takes.")] = "",
    suite: Annotated[
        str, typer.Option(help="With tasks and safety-sets: a suite, whose folders are looked through too.")
    ] = "",
    plugin: options.Plugins = [],  # noqa: B006
) -> None:
    """List what there is to choose from, or describe one: `list method hpa`; a broken plugin is listed as such."""
    plural = kind if kind.endswith("s") else f"{kind}s"
    if plural not in KINDS:
        raise unknown("kind", kind, KINDS, "of what can be listed")
    if name and plural in SETS:
        raise UserError(f"Of {plural}, single ones are not described: leave out {name!r}.")
    if suite and plural not in SETS:
        raise UserError(f"--suite changes nothing about {plural}: leave it out.")
    if name:
        _describe(plural, name, plugin)
        return
    if plural == "suites":
        entries = _suites()
    else:
        entries = _sets(plural, suite) if plural in SETS else _registered(plural, plugin)
    width = max([20, *(len(each) for each, _ in entries)])
    for each, text in entries:
        print(clean(f"{each:<{width}} {text}"))


def _suites() -> list[tuple[str, str]]:
    from hpa_bench.suite import bundled_suites, read_suite

    descriptions = {name: read_suite(name)[0].get("description") or "" for name in bundled_suites()}
    return [(name, text.strip().partition("\n")[0]) for name, text in descriptions.items()]


def _sets(kind: str, suite: str) -> list[tuple[str, str]]:
    """Return the tasks or the safety sets that suites can name: what each is, its metric, and which suites name it."""
    from hpa_bench.data.task_files import task_files
    from hpa_bench.suite import bundled_suites, make_suite, package_task_folders, read_suite

    names = dict.fromkeys([*([suite] if suite else []), *bundled_suites()])
    suites = [make_suite(*read_suite(name), f"in suite {name!r}") for name in names]
    _, safety = package_task_folders()
    folders = suites[0].task_folders() if suite else package_task_folders()
    entries = []
    for name, task in task_files(folders).items():
        # What no metric scores is left to judges.
        judged = task.metric == "bypass" or task.path.is_relative_to(safety)
        if judged == (kind == "safety-sets"):
            users = ", ".join(each.name for each in suites if name in each.sets())
            about = [task.about, "By judges." if judged else f"Metric: {task.metric or 'unknown'}."]
            entries.append((name, " ".join(filter(None, [*about, f"In: {users}." if users else ""]))))
    return entries


def _describe(kind: str, name: str, plugins: Sequence[Path]) -> None:
    from hpa_bench.cli.console import make_console
    from hpa_bench.cli.describe import described, keys_of, table
    from hpa_bench.plugins import DOORS, load_plugins
    from hpa_bench.suite import Suite, make_suite, read_suite

    load_plugins(plugins)
    if kind == "suites":
        suite = make_suite(*read_suite(name), f"in suite {name!r}")
        make_console().print(table(list(keys_of(Suite, suite.model_dump())), "value"))
        return
    registry = next(door for door in DOORS if door.group == f"hpa_bench.{kind}")
    make_console().print(described(registry.get(name), name, registry.origin(name)))


def _registered(kind: str, plugins: Sequence[Path]) -> list[tuple[str, str]]:
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
