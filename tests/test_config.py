"""Configuration read from settings and YAML: typed, split, put in place, and refused in one sentence."""

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from hpa_bench.config import DEEPEST, BaseConfig, keys, override, parse, parse_settings, read_yaml, split_settings
from hpa_bench.errors import UserError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rank: int = 4


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    rate: float = 0.1
    inner: Inner = Inner()

    @field_validator("rate")
    @classmethod
    def _positive(cls, rate: float) -> float:
        if rate <= 0:
            raise ValueError("rate must be positive")
        return rate


def refused(**values: object) -> str:
    with pytest.raises(UserError) as caught:
        parse(Outer, values, "in a.yaml")
    return str(caught.value)


def test_values_that_fit_are_a_configuration() -> None:
    assert parse(Outer, {"name": "a", "inner": {"rank": 8}}, "") == Outer(name="a", inner=Inner(rank=8))


def test_an_unknown_key_names_the_nearest() -> None:
    available = "Available: inner.rank, name, rate."

    assert refused(name="a", rat=1) == f"Unknown key 'rat' in a.yaml. Did you mean 'rate'? {available}"
    assert refused(name="a", zzz=1) == f"Unknown key 'zzz' in a.yaml. {available}"
    assert "Unknown key 'inner.rang' in a.yaml. Did you mean 'inner.rank'?" in refused(name="a", inner={"rang": 1})


def test_a_key_without_a_default_must_be_given() -> None:
    assert refused(rate=1) == "The key 'name' in a.yaml is missing: it has no default, so give it a value."


def test_a_value_that_does_not_fit_is_named_with_its_place() -> None:
    message = refused(name="a", inner={"rank": "four"})

    assert message.startswith("Bad value for inner.rank in a.yaml: Input should be a valid integer")
    assert message.endswith("(got 'four').")


def test_a_validators_own_sentence_stands() -> None:
    assert refused(name="a", rate=-1) == "Bad value in a.yaml: rate must be positive."


def test_of_a_large_value_only_the_beginning_is_shown() -> None:
    assert len(refused(name="a", rate="x" * 10_000)) < 250
    assert "(got [0, 1, 2, ...])." in refused(name="a", rate=list(range(1000)))


def test_keys_are_dotted_where_they_are_nested() -> None:
    assert keys(Outer) == ["name", "rate", "inner.rank"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2.5e3", -2500.0),
        (".5e3", 500.0),
        ("1.", 1.0),
        ("1_000", 1000),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("010", "010"),
        ("20:", "20:"),
        ("a: b", "a: b"),
        ("- a", "- a"),
        ("true", True),
        ("null", None),
        ("", None),
        ("[a, 2]", ["a", 2]),
        ("{a: 1}", {"a": 1}),
        ("a=b", "a=b"),
        ("e4", "e4"),
        ("1e-4x", "1e-4x"),
        ("[open", "[open"),
    ],
)
def test_settings_are_typed(text: str, value: object) -> None:
    (found,) = parse_settings([f" key ={text}"]).items()

    assert found == ("key", value) and type(found[1]) is type(value)


def test_of_settings_of_one_key_the_last_stands() -> None:
    assert parse_settings(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


def test_a_setting_needs_a_value() -> None:
    with pytest.raises(UserError, match=r"^Bad setting 'rank': expected key=value\.$"):
        parse_settings(["a=1", "rank"])


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("hpa", "hpa", {}),
        ("hpa:", "hpa", {}),
        ("hpa:p_max=20:", "hpa", {"p_max": 20}),
        ("hpa:p_max=20:p_min=5", "hpa", {"p_max": 20, "p_min": 5}),
        (
            "openai:base_url=http://localhost:8000/v1:model=a:b",
            "openai",
            {"base_url": "http://localhost:8000/v1", "model": "a:b"},
        ),
        ("x:a.b=1:c=d:2=3", "x", {"a.b": 1, "c": "d:2=3"}),
    ],
)
def test_a_colon_parts_settings_only_before_a_key(text: str, name: str, settings: dict[str, object]) -> None:
    assert split_settings(text) == (name, settings)


def test_what_follows_a_name_must_be_a_setting() -> None:
    with pytest.raises(UserError, match="Bad setting 'fast': expected key=value"):
        split_settings("hpa:fast")


def test_dotted_settings_leave_the_rest_as_it_is() -> None:
    values = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "none": None}

    found = override(values, {"a": 5, "b.d.e": 6, "b.f": 7, "none.x": 8, "new.y": 9})

    assert found == {"a": 5, "b": {"c": 2, "d": {"e": 6}, "f": 7}, "none": {"x": 8}, "new": {"y": 9}}
    assert values == {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "none": None}


@pytest.mark.parametrize("value", [1, "text", ["x", "y"]])
def test_a_dotted_setting_takes_the_place_of_what_has_no_keys(value: object) -> None:
    assert override({"a": value}, {"a.b": 2}) == {"a": {"b": 2}}


class Own(BaseConfig):
    """A stranger's, without a bound of its own."""

    rate: float = 1
    count: int | None = None
    on: bool = False
    either: bool | int = False


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf", "1e999"])
def test_no_configuration_takes_a_number_that_is_none(rate: str) -> None:
    with pytest.raises(UserError, match="^Bad value for rate in it: Input should be a finite number"):
        parse(Own, {"rate": float(rate)}, "in it")


def test_a_switch_is_no_number() -> None:
    assert parse(Own, {"on": True, "either": True}, "").model_dump() == {
        "rate": 1.0,
        "count": None,
        "on": True,
        "either": True,
    }
    for key in ("rate", "count"):
        with pytest.raises(UserError, match=f"^Bad value in it: {key} is True, and a number was expected.$"):
            parse(Own, {key: True}, "in it")


def test_yaml_is_read_as_deep_as_the_limit() -> None:
    assert read_yaml("a: [1, {b: 2}]") == {"a": [1, {"b": 2}]}
    nested = read_yaml("[" * DEEPEST + "]" * DEEPEST)
    for _ in range(DEEPEST - 1):
        (nested,) = nested
    assert nested == []


def test_yaml_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=f"more than {DEEPEST} brackets are open at once"):
        read_yaml("[{a: " * (DEEPEST // 2) + "[")
    assert len(read_yaml("[" + "[]," * (2 * DEEPEST) + "]")) == 2 * DEEPEST  # Closed ones do not count.
    assert read_yaml("a: '" + "[" * (2 * DEEPEST) + "'")["a"], "nor do those in a text"


@pytest.mark.parametrize("text", ["'" + "]" * 90 + "': " + "[" * 90, "[']', " * 90, "- " * 90, "? " * 20_000])
def test_whatever_hides_it_deep_yaml_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match=f"more than {DEEPEST} (brackets|blocks) are open at once"):
        read_yaml(text)


@pytest.mark.parametrize(
    ("text", "lines"), [("a: 1\nb: 2\na: 3", "1 and 3"), ("{a: 1, a: 1}", "1 and 1"), ("b:\n a: 1\n 'a': 2", "2 and 3")]
)
def test_a_key_stands_once(text: str, lines: str) -> None:
    with pytest.raises(ValueError, match=f"the key 'a' stands twice, in lines {lines}$"):
        read_yaml(text)


def test_nothing_is_merged() -> None:
    bomb = "\n".join(
        ["a0: &a0 {k: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 30))]
    )
    assert list(read_yaml(bomb)["a1"]) == ["<<"]


def test_broken_yaml_is_one_line() -> None:
    with pytest.raises(ValueError, match="while parsing a flow sequence") as caught:
        read_yaml("a: [1\nb: 2")
    assert "\n" not in str(caught.value)
