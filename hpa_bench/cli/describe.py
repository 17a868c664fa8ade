"""One thing that can be chosen, described: what it is, where it comes from, and every key that it takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hpa_bench.tunable import Tunable

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class Key(NamedTuple):
    """A key of a configuration, in words."""

    name: str
    """Nested ones dotted."""
    type: str
    default: str
    """As YAML writes it; "required" where there is none."""
    range: str
    """Empty where every value of the type will do."""
    meaning: str
    """Of a method's strength, also where `hpa-bench tune` searches it."""


def described(kind: type, name: str, origin: str) -> RenderableType:
    """Return what rich prints of a registered class.

    Args:
        kind: the class; what it takes is its `Config`.
        name: what it is registered as.
        origin: where it comes from.
    """
    parts = [Text(f"{name} (from {origin})", "bold"), *_words(kind)]
    config = getattr(kind, "Config", None)
    found = list(keys_of(config)) if config else []
    parts.append(Text())
    return Group(*parts, table(found) if found else Text("It takes no settings."))


def table(keys: list[Key], value: str = "default") -> Table:
    """Return keys as rich prints them; `value` is the head of the column of defaults."""
    shown = Table(show_lines=True)
    shown.add_column("key", no_wrap=True)
    for head in ("type", value, "range"):
        shown.add_column(head, overflow="fold")
    shown.add_column("meaning", ratio=1, min_width=30, overflow="fold")
    for key in keys:
        shown.add_row(*map(Text, key))
    return shown


def keys_of(config: type[BaseModel], values: Mapping[str, Any] | None = None, prefix: str = "") -> Iterator[Key]:
    """Yield every key of a configuration.

    Args:
        config: the pydantic model.
        values: what takes the place of the defaults, by name, nested.
        prefix: of the names, for the parts of a nested one.
    """
    for name, field in config.model_fields.items():
        value = (values or {}).get(name, field.get_default(call_default_factory=True))
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield from keys_of(part, value.model_dump() if isinstance(value, BaseModel) else value, f"{prefix}{name}.")
            continue
        default = "required" if values is None and field.is_required() else _written(value)
        tuned = [f"Tuned over {mark}." for mark in field.metadata if isinstance(mark, Tunable)]
        meaning = " ".join([*(field.description or "").split(), *tuned])
        yield Key(f"{prefix}{name}", _type(part), default, _range(field), meaning)


def _words(kind: type) -> Iterator[Text]:
    """Yield what the docstrings of a class and of its module say; the module's has the equation and the source."""
    module = sys.modules[kind.__module__].__doc__
    for text in (kind.__doc__, module):
        if text:
            yield Text()
            yield Text(cleandoc(text))


def _written(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return value if isinstance(value, str) and value else json.dumps(value, default=str, ensure_ascii=False)


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is NoneType:
        return "null"
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " | ".join(map(_written, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(_type, inner))
    if origin in (list, tuple, set, frozenset):
        return f"list of {_type(inner[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "mapping"
    return getattr(annotation, "__name__", str(annotation))


def _range(field: FieldInfo) -> str:
    found = [
        f"{sign} {bound:g}"
        for each in field.metadata
        for name, sign in BOUNDS.items()
        if (bound := getattr(each, name, None)) is not None
    ]
    if least := next((each.min_length for each in field.metadata if getattr(each, "min_length", None)), None):
        found.append(f"at least {least}")
    return ", ".join(found)
