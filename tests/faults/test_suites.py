"""Every key of a suite's file, nested ones too: left out, of another type, or given twice."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from hpa_bench.spec import RunOptions, RunSpec, make_spec
from hpa_bench.suite import BUNDLED, Suite, read_suite
from tests.faults.conftest import Note
from tests.support.faults import outcome

pytestmark = pytest.mark.faults

LIMIT = 10.0


def sections(kind: Any) -> list[type[BaseModel]]:
    return [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)]


def keys(config: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield every key, its type and its default."""
    for name, field in config.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield (*prefix, name), field.annotation, default
        for section in sections(field.annotation):
            yield from keys(section, (*prefix, name))


KEYS = list(keys(Suite))


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A suite that names every key."""
    values = read_suite("tiny")[0]
    for key in ("model", "unaligned_model"):
        values[key] = str((BUNDLED / values[key]).resolve())
    values["decoder"] = {"blocks": None, "layers": None}
    dumped = Suite.model_validate(values).model_dump(mode="json")
    for key, _, default in KEYS:  # Some keys are not written where they have their default.
        inside(dumped, key).setdefault(key[-1], default)
    return dumped


def spec_of(folder: Path, text: str) -> RunSpec:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return make_spec(RunOptions(str(file), "seqft"))


def inside(values: dict[str, Any], key: tuple[str, ...]) -> dict[str, Any]:
    """Return the mapping that holds a key."""
    return reduce(lambda found, name: found[name], key[:-1], values)


def other_type(kind: Any) -> Any:
    """Return a value that a key of some type cannot have."""
    kinds = {get_origin(one) or one for one in (kind, *get_args(kind))} - {NoneType}
    return 3 if kinds & {list, dict} or sections(kind) else [{"a": [1]}]


def test_the_suite_is_whole(whole: dict[str, Any], tmp_path: Path) -> None:
    read = spec_of(tmp_path, yaml.safe_dump(whole)).suite.model_dump(mode="json")
    assert read == Suite.model_validate(whole).model_dump(mode="json")
    assert len(KEYS) > 50


def test_a_key_that_is_left_out_has_its_default_or_is_named(whole: dict[str, Any], tmp_path: Path, note: Note) -> None:
    for key, _, default in KEYS:
        values = copy.deepcopy(whole)
        del inside(values, key)[key[-1]]
        found = outcome(
            lambda: reduce(getattr, key, spec_of(tmp_path, yaml.safe_dump(values)).suite),  # noqa: B023
            [key[-1]],
            right=lambda value: value == default,  # noqa: B023
            limit=LIMIT,
        )
        note("key of a suite", "missing", ".".join(key), found)


def test_a_key_of_another_type_is_named(whole: dict[str, Any], tmp_path: Path, note: Note) -> None:
    for key, kind, _ in KEYS:
        for wrong in (other_type(kind), "\u0000" if kind is bool else {"a": {"b": [1]}}):
            values = copy.deepcopy(whole)
            inside(values, key)[key[-1]] = wrong
            found = outcome(lambda: spec_of(tmp_path, yaml.safe_dump(values)), [key[-1]], limit=LIMIT)  # noqa: B023
            note("key of a suite", "wrong type", f"{'.'.join(key)}: {wrong}", found)


def test_a_key_that_stands_twice_is_named(whole: dict[str, Any], tmp_path: Path, note: Note) -> None:
    for key, _, _ in KEYS:
        node: Any = yaml.compose(yaml.safe_dump(whole))
        place = node
        for name in key[:-1]:
            place = next(value for found, value in place.value if found.value == name)
        place.value.append(next(pair for pair in place.value if pair[0].value == key[-1]))
        found = outcome(lambda: spec_of(tmp_path, yaml.serialize(node)), [repr(key[-1])], limit=LIMIT)  # noqa: B023
        note("key of a suite", "twice", ".".join(key), found)
