"""What `hpa-bench list method NAME` says: every key with its type, default, bounds and meaning, and the source."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.cli.describe import Key, keys_of
from hpa_bench.config import keys
from hpa_bench.method import MethodConfig, methods
from hpa_bench.plugins import DOORS
from hpa_bench.suite import Suite
from hpa_bench.tunable import Tunable

PLUGIN = '''
"""`theta_t = theta_0 + share * tau`, of Nobody et al. (2031)."""

from pydantic import Field

from hpa_bench import Method, MethodConfig


class ShareConfig(MethodConfig):
    """How much."""

    share: float = Field(0.5, gt=0, le=1)
    """Of the update, with a [bracket]."""


class Share(Method):
    """Keep a share of the update."""

    name = "share"
    Config = ShareConfig
'''


class Inner(MethodConfig):
    """A part."""

    depth: int | None = Field(None, ge=1)
    """How deep,
    in blocks."""


class Odd(MethodConfig):
    """A key of every kind."""

    needed: str
    kind: Literal["fast", "exact"] = "fast"
    """How."""
    blocks: tuple[int, ...] | Literal["all"] = (1, 2)
    names: list[str] = Field(default_factory=list, min_length=1)
    inner: Inner = Inner(depth=3)
    share: float = Field(0.25, ge=0, lt=1)
    on: bool = False
    options: dict[str, int] = {}
    part: Inner | None = None
    strength: Annotated[float, Tunable(0.5, 2, log=True)] = Field(1.0, gt=0)
    """How much."""


def test_every_key_is_in_words() -> None:
    assert list(keys_of(Odd)) == [
        Key("needed", "str", "required", "", ""),
        Key("kind", "fast | exact", "fast", "", "How."),
        Key("blocks", "list of int | all", "[1, 2]", "", ""),
        Key("names", "list of str", "[]", "at least 1", ""),
        Key("inner.depth", "int | null", "3", ">= 1", "How deep, in blocks."),
        Key("share", "float", "0.25", ">= 0, < 1", ""),
        Key("on", "bool", "false", "", ""),
        Key("options", "mapping", "{}", "", ""),
        Key("part", "mapping | null", "null", "", ""),
        Key("strength", "float", "1.0", "> 0", "How much. Tuned over 0.5 to 2 (log)."),
    ]


def test_a_suites_values_stand_in_the_place_of_the_defaults() -> None:
    suite = Suite(name="mine", model=None, tasks=["ad"], lora={"rank": 7})  # type: ignore[arg-type]
    found = {key.name: key.default for key in keys_of(Suite, suite.model_dump())}

    assert found["name"] == "mine" and found["lora.rank"] == "7" and found["tasks"] == '["ad"]'
    assert list(found) == keys(Suite)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_every_key_of_what_ships_says_what_it_means(door: object) -> None:
    for name in door.names():  # type: ignore[attr-defined]
        config = getattr(door.get(name), "Config", None)  # type: ignore[attr-defined]
        for key in keys_of(config) if config else ():
            assert key.meaning.endswith((".", ")", "?")), f"{name}: {key}"


def test_defaults_can_be_given_as_they_are_shown() -> None:
    for name in methods.names():
        config = methods.get(name).Config
        for key in keys_of(config):
            text = key.default
            shown = text if not text.startswith(("[", "{")) else json.dumps(json.loads(text))
            assert shown == text and config.model_validate({}).model_dump().keys() >= {key.name}


def test_a_method_is_described_with_its_source() -> None:
    result = CliRunner().invoke(app, ["list", "method", "hpa"])

    assert result.exit_code == 0
    assert result.output.startswith("hpa (from hpa-bench)\n") and "Wang et al., arXiv 2511.20158" in result.output
    line = next(line for line in result.output.splitlines() if " p_max " in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")][:4] == ["p_max", "float", "15.0", ">= 0, <= 100"]
    assert "Tuned over 5 to 80 (log)." in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["judge", "openai"], ["base_url", "https://api.openai.com/v1", "required"]),
        (["engine", "vllm"], ["gpu_memory_utilization", "> 0, <= 1"]),
        (["engine", "hf"], ["It takes no settings."]),
        (["launcher", "local"], ["slots"]),
        (["suite", "tiny"], ["training.learning_rate", "tiny_unsafe_i", "value"]),
    ],
)
def test_others_are_described_by_the_same_code(arguments: list[str], shown: list[str]) -> None:
    result = CliRunner().invoke(app, ["list", *arguments])

    assert result.exit_code == 0 and all(text in result.output for text in shown), result.output


def test_so_is_a_strangers(tmp_path: Path) -> None:
    plugin = tmp_path / "share.py"
    plugin.write_text(PLUGIN)

    result = CliRunner().invoke(app, ["list", "method", "share", "--plugin", str(plugin)])

    assert result.exit_code == 0, result.output
    for text in ("share (from", "Nobody et al. (2031)", "> 0, <= 1", "Of the update, with a [bracket]."):
        assert text in result.output
