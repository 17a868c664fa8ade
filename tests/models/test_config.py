"""What a suite says of a model."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hpa_bench.errors import UserError
from hpa_bench.models.config import LoRAConfig, read_chat_template


def test_the_default_adapter() -> None:
    assert LoRAConfig().model_dump() == {"rank": 16, "alpha": 32, "dropout": 0.0}


@pytest.mark.parametrize("values", [{"rank": 1}, {"rank": 2**16}, {"alpha": 1}, {"dropout": 0.999}])
def test_the_ends_of_what_is_sensible_are_accepted(values: dict[str, Any]) -> None:
    assert LoRAConfig(**values).model_dump() == LoRAConfig().model_dump() | values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("rank", 0), ("rank", 2**16 + 1), ("rank", 1.5), ("alpha", 0), ("alpha", 2**20 + 1)),
        *(("dropout", -0.1), ("dropout", 1.0), ("dropout", float("nan")), ("dropout", float("inf"))),
    ],
)
def test_what_is_not_sensible_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValidationError) as caught:
        LoRAConfig.model_validate({key: value})
    assert [error["loc"] for error in caught.value.errors()] == [(key,)]


def test_an_adapter_is_frozen_and_has_no_other_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        LoRAConfig().rank = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        LoRAConfig.model_validate({"r": 2})


def test_a_chat_template_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_bytes("{% for m in messages %}\nÜ{% endfor %}\n".encode())

    assert read_chat_template(tmp_path / "chat.jinja") == "{% for m in messages %}\nÜ{% endfor %}\n"


@pytest.mark.parametrize("made", ["nothing", "folder", "bytes"])
def test_a_chat_template_that_cannot_be_read_is_one_sentence(made: str, tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    if made == "folder":
        path.mkdir()
    elif made == "bytes":
        path.write_bytes(b"\xff\xfe")

    with pytest.raises(UserError) as caught:
        read_chat_template(str(path))
    assert str(caught.value).startswith(f"The chat template {str(path)!r} cannot be read: ")
