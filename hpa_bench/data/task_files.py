"""lm-eval tasks as their YAML files say them, without lm-eval, whose index of its own tasks takes many seconds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hpa_bench.errors import UserError, unknown

_TASK = re.compile(r"^[\"']?task[\"']?:[ \t]*[\"']?([\w.+-]+)", re.MULTILINE)
_MENTIONED = r"(?<![\w.+-]){}(?![\w.+-])"
"""A name as it stands in any YAML: what a name may be made of stands neither before nor behind it."""
_NAMED = r"(?m)^[\"']?task[\"']?:[ \t]*[\"']?{}[\"']?[ \t\r]*(#.*)?$"
"""A name as all of lm-eval's own files have it."""


class TaskFile(NamedTuple):
    """What a task's YAML says of it."""

    path: Path
    about: str
    """The first line of its comment; empty where it has none."""
    metric: str
    """What scores it, its first metric; empty where it names none."""


class _Loader(yaml.SafeLoader):
    """Reads `!function` as the text behind it, and runs nothing."""


_Loader.add_constructor("!function", lambda loader, node: str(node.value))


def task_files(folders: Iterable[Path]) -> dict[str, TaskFile]:
    """Return what the tasks below some folders say of themselves, by name, sorted; a broken file is passed over."""
    found = {}
    for path in _files(folders):
        text = _text(path)
        if match := _TASK.search(text):
            first = text.partition("\n")[0]
            about = first.removeprefix("#").strip() if first.startswith("#") else ""
            found[match[1]] = TaskFile(path, about, _metric(path))
    return dict(sorted(found.items()))


def check_names(names: Iterable[str], folders: Sequence[Path]) -> None:
    """Check that tasks exist, in well under a second where the folders have them, else in about one.

    A name that no YAML file has, neither below the folders nor among lm-eval's own, is no task's. Any other is left to
    lm-eval to find.

    Args:
        names: of tasks.
        folders: of lm-eval YAMLs.

    Raises:
        UserError: there is no such task; the nearest of the folders' is offered.
    """
    missing = list(dict.fromkeys(names))
    for places, written in ((folders, _MENTIONED), (_own_folders(), _NAMED)):
        if not missing:
            return
        patterns = {name: re.compile(written.format(re.escape(name))) for name in missing}
        for path in _files(places):
            text = _text(path)
            # Looking for the plain text first is many times faster.
            missing = [name for name in missing if name not in text or not patterns[name].search(text)]
            if not missing:
                return
    raise unknown_task(missing[0], folders)


def unknown_task(name: str, folders: Sequence[Path]) -> UserError:
    """Return the error for a task that neither some folders nor lm-eval have."""
    places = ", ".join(str(folder) for folder in folders)
    known = {match[1] for path in _files(folders) if (match := _TASK.search(_text(path)))}
    return unknown("task", name, known, f"(neither in {places} nor among lm-eval's own tasks)")


def _own_folders() -> list[Path]:
    spec = find_spec("lm_eval")
    return [Path(place) / "tasks" for place in (spec.submodule_search_locations or ())] if spec else []


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(folder.rglob("*.yaml"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _metric(path: Path, depth: int = 8) -> str:
    """Return the first metric of a YAML, or of what it includes; "" where there is none or it cannot be read."""
    try:
        content = yaml.load(_text(path), _Loader)
        if not isinstance(content, Mapping):
            return ""
        listed: Any = content.get("metric_list")
        if listed:
            return str(listed[0]["metric"])
        included = content.get("include") or ()
        for name in [included] if isinstance(included, str) else reversed(included):
            if depth and (metric := _metric(path.parent / name, depth - 1)):
                return metric
    except (OSError, yaml.YAMLError, TypeError, KeyError, IndexError, RecursionError):
        pass
    return ""
