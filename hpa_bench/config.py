"""Read configuration into pydantic models, with one sentence for what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from hpa_bench.errors import UserError, shown, unknown

M = TypeVar("M", bound=BaseModel)
DEEPEST = 50
"""Levels of YAML that are open at once: a configuration has a few, and PyYAML takes minutes over thousands."""
LONGEST = 300
"""Characters kept of what PyYAML says, which may quote the text at any length."""
MOST = 2**16
"""Samples that may go together, in any place: more is a slip of the pen, which would only fail hours later."""
_NEXT_SETTING = re.compile(r":(?=[A-Za-z_][\w.]*=)")


class BaseConfig(BaseModel):
    """What users configure: frozen, unknown keys refused, and no number is NaN or infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` for a number, which pydantic takes for 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = {*get_args(annotation), annotation}
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError(f"{info.field_name} is {value}, and a number was expected")
        return value


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
        raise UserError(f"Bad value for {path} {where}: {first['msg']} (got {shown(first['input'])}).") from None


class _Loader(yaml.SafeLoader):
    """YAML as a configuration is written: a key stands once, numbers are decimal, and nothing is merged or deep."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in ("int", "float", "merge")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping whose keys differ; YAML would keep the last of equal ones without a word."""
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(f"the key {shown(key.value)} stands twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Open a bracket."""
        if self.flow_level >= DEEPEST:
            raise ValueError(f"more than {DEEPEST} brackets are open at once")
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        """Open a block."""
        if len(self.indents) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} blocks are open at once")
        return super().add_indent(column)


# YAML 1.1 reads 1:30 as 90, 010 as 8, and 1e-4 and .5e3 as text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def read_yaml(text: str) -> Any:
    """Return what YAML says.

    Raises:
        ValueError: it is not valid, a key stands twice, or more than `DEEPEST` levels are open at once.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:LONGEST]) from None


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
            raise UserError(f"Bad setting {shown(setting)}: expected key=value.")
        try:
            parsed = read_yaml(value)
        except ValueError:
            parsed = value
        # A mapping or a list of one line has brackets; `a: b` and `20:` are text.
        plain = isinstance(parsed, dict | list) and value.strip()[:1] not in ("{", "[")
        values[key.strip()] = value if plain else parsed
    return values


def split_settings(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of `name:key=value:key=value`.

    A colon parts two settings only where `key=` follows it, so a value may hold colons, as
    `base_url=http://localhost:8000/v1` does. One at the very end parts nothing.

    Raises:
        UserError: a setting without `=`.
    """
    name, _, settings = text.removesuffix(":").partition(":")
    return name.strip(), parse_settings([setting for setting in _NEXT_SETTING.split(settings) if setting])


def with_settings(text: str, settings: Mapping[str, Any]) -> str:
    """Return `name:key=value` with further settings, which `split_settings` reads back."""
    return ":".join([text, *(f"{key}={json.dumps(value)}" for key, value in settings.items())])


def override(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested `values` with dotted settings put in."""
    result = dict(values)
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        inner = result.get(head)
        result[head] = override(inner if isinstance(inner, Mapping) else {}, {rest: value}) if rest else value
    return result
