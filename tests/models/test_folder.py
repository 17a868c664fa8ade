"""The files of a checkpoint's folder (what `run` says of each fault in each of them: tests/faults)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hpa_bench.errors import UserError
from hpa_bench.models.folder import INDEX, SINGLE, check_files, stored_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two tensors in two files."""
    for name in ("a", "b"):
        save_file({name: torch.ones(2)}, tmp_path / f"{name}.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_whole_folder_passes(folder: Path) -> None:
    check_files(folder)

    assert stored_files(folder) == {"a": "a.safetensors", "b": "b.safetensors"}


def test_of_one_file_no_index_is_needed(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / SINGLE)

    assert stored_files(tmp_path) == {"a": SINGLE}


def test_json_that_nobody_reads_may_be_torn(folder: Path) -> None:
    (folder / "notes.json").write_text("{")

    check_files(folder)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", b"{", "is not whole: it is no JSON"),
        ("config.json", b"[]", "is not whole: expected one JSON object"),
        ("a.safetensors", b"", "is not whole ("),
        ("a.safetensors", None, "is missing"),
        (INDEX, b"{}", "is not whole: expected a weight_map from tensors to files"),
        (INDEX, b'{"weight_map": {"a": 1}}', "is not whole: expected a weight_map from tensors to files"),
    ],
)
def test_what_is_not_whole_is_named(name: str, content: bytes | None, told: str, folder: Path) -> None:
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)

    with pytest.raises(UserError) as caught:
        check_files(folder)
    assert str(caught.value).startswith(f"{folder / name} {told}")


def test_a_tensor_that_is_not_where_the_index_says_is_named(folder: Path) -> None:
    save_file({"c": torch.ones(2)}, folder / "b.safetensors")

    with pytest.raises(UserError, match=rf"b.safetensors lacks 'b', which {INDEX} says is in it"):
        check_files(folder)
