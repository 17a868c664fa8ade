"""Every number of every configuration, given as a user gives it, with values that are no number or make no sense."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from hpa_bench.engines.base import engines
from hpa_bench.judges.base import judges, make_judge
from hpa_bench.launchers.base import launchers, make_launcher
from hpa_bench.method import methods
from hpa_bench.runner.alignment import Alignment, Recipe
from hpa_bench.spec import RunOptions, RunSpec, check_spec, engine_config, make_spec
from hpa_bench.suite import Suite
from tests.faults.conftest import Note
from tests.support.faults import outcome
from tests.support.stages import two_stages

pytestmark = pytest.mark.faults

VALUES = {"NaN": ".nan", "infinity": ".inf", "-1": "-1", "0": "0", "1e9": "1e9", "a word": "often", "a switch": "yes"}
LIMIT = 10.0


def numbers(config: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the names of the keys that take a number, nested ones dotted."""
    for name, field in config.model_fields.items():
        kinds = {field.annotation, *get_args(field.annotation)}
        if kinds & {int, float}:
            yield prefix + name
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from numbers(kind, f"{prefix}{name}.")


def of_method(name: str, setting: str) -> Any:
    """Return the configuration of a method that has gone through two stages with it."""
    spec = make_spec(RunOptions("tiny", name, settings=[setting]))
    with TemporaryDirectory() as folder:
        weights = two_stages(spec.method(spec.config), Path(folder))
    assert all(tensor.isfinite().all() for tensor in weights.values())
    return spec.config


def of_suite(_: str, setting: str) -> Any:
    return make_spec(RunOptions("tiny", "seqft", settings=[setting])).suite


def of_engine(name: str, setting: str) -> Any:
    given = f"evaluation.engines.{name}.{setting}"
    return engine_config(make_spec(RunOptions("tiny", "seqft", settings=[given])).suite, name)


def of_judge(name: str, setting: str) -> Any:
    required = [f"{key}=a" for key, field in judges.get(name).Config.model_fields.items() if field.is_required()]
    own = ["base_url=http://127.0.0.1:9/v1"] if name == "openai" else []  # The public one asks for a key.
    return make_judge(":".join([name, *required, *own, setting])).config


def of_launcher(name: str, setting: str) -> Any:
    return make_launcher(f"{name}:{setting}").config


def of_alignment(_: str, setting: str) -> Any:
    return Alignment(model="a", data=["b"], out=Path("c"), settings=[setting]).recipe()


DOORS = {
    "method": (of_method, [(name, methods.get(name).Config) for name in methods.names()]),
    "suite": (of_suite, [("", Suite)]),
    "engine": (of_engine, [(name, engines.get(name).Config) for name in engines.names()]),
    "judge": (of_judge, [(name, judges.get(name).Config) for name in judges.names()]),
    "launcher": (of_launcher, [(name, launchers.get(name).Config) for name in launchers.names()]),
    "alignment": (of_alignment, [("", Recipe)]),
}
KEYS = [
    (group, name, key) for group, (_, configs) in DOORS.items() for name, config in configs for key in numbers(config)
]


def is_given(config: Any, key: str, text: str) -> bool:
    """Whether a configuration holds the number that was given."""
    found = reduce(getattr, key.split("."), config)
    return isinstance(found, int | float) and math.isfinite(found) and found == float(text)


def test_every_configuration_is_looked_through() -> None:
    assert {"hpa p_max", "replay ratio", "openai timeout", "local slots", " lora.rank", "vllm max_model_len"} <= {
        f"{name} {key}" for _, name, key in KEYS
    }


@pytest.mark.parametrize("fault", VALUES)
def test_a_number_is_taken_as_it_is_or_refused_by_its_name(fault: str, note: Note) -> None:
    text = VALUES[fault]
    for group, name, key in KEYS:
        door = DOORS[group][0]
        found = outcome(
            lambda: door(name, f"{key}={text}"),  # noqa: B023
            [key.rpartition(".")[2]],
            right=lambda config: fault in ("-1", "0", "1e9") and is_given(config, key, text),  # noqa: B023
            limit=LIMIT,
        )
        note("number of a setting", fault, f"{group} {name}: {key}={text}", found)


@pytest.mark.parametrize("fault", VALUES)
def test_so_is_a_number_of_a_written_run(fault: str, note: Note) -> None:
    whole = json.loads(make_spec(RunOptions("tiny", "hpa")).to_json())
    values = {"NaN": math.nan, "infinity": math.inf, "a word": "often", "a switch": True}
    value = values[fault] if fault in values else float(VALUES[fault])

    for key in ("seed", "harmful_ratio", "format"):

        def act(key: str = key) -> RunSpec:
            spec = RunSpec.from_json(json.dumps(whole | {key: value}))
            check_spec(spec)
            return spec

        found = outcome(act, [key, key.replace("_", "-")], right=lambda spec: getattr(spec, key) == value)  # noqa: B023
        note("number of a written run", fault, f"{key}={value}", found)
