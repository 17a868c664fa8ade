"""The reference pages of the docs site that are made from the code: verbs, settings of whatever registers.

A hook of MkDocs (mkdocs.yml): the pages are virtual, so nothing of the code is written down a second time.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from hpa_bench.cli import VERBS, app
from hpa_bench.cli.describe import Key, keys_of
from hpa_bench.plugins import DOORS

HEAD = ("key", "type", "default", "range", "meaning")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for name, make in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    return files


def command(verb: str) -> Any:
    """Return a verb's command, with its options, as the command line has it."""
    group: Any = typer.main.get_command(app)
    return group.resolve_command(typer.Context(group), [verb])[1]


def cli_page() -> str:
    """Return every verb with its arguments and options, as typer writes them."""
    parts = ["# The command line", "`hpa-bench VERB --help` says the same."]
    for verb in VERBS:
        found = command(verb)
        context = typer.Context(found, info_name=verb)
        parts.append(get_docs_for_click(obj=found, ctx=context, indent=1, name=verb, call_prefix="hpa-bench"))
    return "\n\n".join(parts)


def settings_page(kind: str, title: str, more: str) -> Callable[[], str]:
    """Return what makes the page of one kind of registered classes: what each is, its sources, every key."""

    def make() -> str:
        registry = next(one for one in DOORS if one.group == f"hpa_bench.{kind}")
        parts = [f"# {title}", more]
        for name in registry.names():
            cls = registry.get(name)
            module = inspect.getdoc(inspect.getmodule(cls)) or ""
            config = getattr(cls, "Config", None)
            keys = list(keys_of(config)) if config else []
            parts += [f"## `{name}`", _line(inspect.getdoc(cls) or "")]
            parts += [f"````text\n{module}\n````", table(keys) if keys else "It takes no settings."]
        return "\n\n".join(parts)

    return make


PAGES: dict[str, Callable[[], str]] = {
    "cli": cli_page,
    "method-settings": settings_page(
        "methods",
        "Hyper-parameters of methods",
        "Set by `--set KEY=VALUE`, or behind a colon in `compare --methods ewc:strength=10`."
        " [The methods](../methods/README.md) says what each does and how it is verified.",
    ),
    "judge-options": settings_page(
        "judges", "Options of judges", "Given behind colons, as in `openai:model=my-judge` ([Judges](../judges.md))."
    ),
    "engine-options": settings_page(
        "engines", "Options of engines", "Set by `--set evaluation.engines.NAME.KEY=VALUE` ([Engines](../engines.md))."
    ),
    "launcher-options": settings_page(
        "launchers",
        "Options of launchers",
        "Given behind colons, as in `local:slots=2`, or by `--set launch.KEY=VALUE`"
        " ([Running at scale](../running-at-scale.md)).",
    ),
}
"""What makes each page, by its name below reference/."""


def _line(text: str) -> str:
    """Return a text's first paragraph as one line that Markdown shows as it stands."""
    said = " ".join(text.strip().partition("\n\n")[0].split())
    return re.sub(r"([*_<\[\]])(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\\1", said)


def table(keys: Sequence[Key] | Iterator[Key]) -> str:
    """Return keys as a table of Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(_cells(key) for key in keys)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(key: Key) -> tuple[str, ...]:
    coded = (f"`{part}`" if part else "" for part in key[:4])
    return tuple(cell.replace("|", r"\|") for cell in (*coded, _line(key.meaning)))
