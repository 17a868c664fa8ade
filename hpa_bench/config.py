"""Read configuration into pydantic models, with one sentence for what is wrong."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hpa_bench.errors import UserError, unknown

M = TypeVar("M", bound=BaseModel)
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_BRACKETS = re.compile(r"[\[\]{}]")
DEEPEST = 50
"""Open brackets of YAML: a configuration has a few."""
_NEXT_SETTING = re.compile(r":(?=[A-Za-z_][\w.]*=)")


def parse(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Build a configuration.

    Args:
        model: the pydantic model.
        values: what the user gave.
        where: the origin, for messages, such as "in suite my.yaml".

    Raises:
        UserError: an unknown key (the nearest is offered) or a value that does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown("key", path, keys(model), where) from None
        if first["type"] == "missing":
            raise UserError(f"The key {path!r} {where} is missing: it has no default, so give it a value.") from None
        if first["type"] == "value_error":  # Of our own validators, whose sentence names the keys.
            raise UserError(f"Bad value {where}: {first['ctx']['error']}.") from None
        raise UserError(f"Bad value for {path} {where}: {first['msg']} (got {_shown(first['input'])}).") from None


def _shown(value: Any) -> str:
    """Return a value for a message: its beginning, however large or deep it is."""
    shown = reprlib.Repr()  # The arguments of its construction are newer than the oldest Python here.
    shown.maxlevel, shown.maxdict, shown.maxlist, shown.maxstring, shown.maxother = 2, 3, 3, 80, 80
    return shown.repr(value)


def read_yaml(text: str) -> Any:
    """Return what YAML says.

    Raises:
        ValueError: it is not valid, or nested more than `DEEPEST` brackets deep, which would take minutes to find out.
    """
    depth = 0
    for mark in _BRACKETS.findall(text):
        depth += 1 if mark in "[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} brackets are open at once")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every key of a configuration, nested ones dotted."""
    found = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += keys(annotation, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return `key=value` settings as a mapping; values are YAML, so `3`, `1e-4`, `true` and `[a, b]` are typed.

    Raises:
        UserError: a setting without `=`.
    """
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"Bad setting {setting!r}: expected key=value.")
        try:
            parsed = read_yaml(value)
        except ValueError:
            parsed = value
        # YAML 1.1 reads 1e-4 as text, for want of a point.
        values[key.strip()] = float(parsed) if isinstance(parsed, str) and _EXPONENT.fullmatch(parsed) else parsed
    return values


def split_settings(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of `name:key=value:key=value`.

    A colon parts two settings only where `key=` follows it, so a value may hold colons, as
    `base_url=http://localhost:8000/v1` does.

    Raises:
        UserError: a setting without `=`.
    """
    name, _, settings = text.partition(":")
    return name.strip(), parse_settings([setting for setting in _NEXT_SETTING.split(settings) if setting])


def override(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested `values` with dotted settings put in."""
    result = dict(values)
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        inner = result.get(head)
        result[head] = override(inner if isinstance(inner, Mapping) else {}, {rest: value}) if rest else value
    return result
