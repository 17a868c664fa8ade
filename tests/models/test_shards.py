"""Safetensors files, against safetensors' own reader and writer."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hpa_bench.errors import UserError
from hpa_bench.models.shards import DTYPES, Form, Shard, create


def tensors() -> dict[str, Tensor]:
    """Every dtype, a name that JSON escapes, a scalar, and a tensor without values."""
    found: dict[str, Tensor] = {"empty": torch.zeros(0, 4), 'ü "quoted"': torch.ones(3)}
    for index, dtype in enumerate(DTYPES.values()):
        found[f"b{index}"] = torch.arange(15).reshape(3, 5).to(dtype)
        found[f"a{index}"] = torch.ones(()).to(dtype)
    return found


def forms(of: dict[str, Tensor]) -> dict[str, Form]:
    return {name: Form(list(tensor.shape), tensor.dtype) for name, tensor in of.items()}


def test_a_file_written_in_any_order_is_safetensors_own(tmp_path: Path) -> None:
    given = tensors()
    save_file(given, tmp_path / "theirs", metadata={"format": "pt"})

    shard = create(tmp_path / "ours", forms(given))
    for name in reversed(given):
        shard.write(name, given[name])
    shard.sync()

    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_what_is_read_is_what_safetensors_reads_and_is_memory_of_its_own(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "file")
    shard = Shard(tmp_path / "file")

    for name, tensor in load_file(tmp_path / "file").items():
        ours = shard.read(name)
        assert ours.dtype == tensor.dtype and torch.equal(ours.double(), tensor.double())
        ours.zero_()
        assert torch.equal(shard.read(name).double(), tensor.double())


def test_a_file_that_is_there_keeps_what_was_written(tmp_path: Path) -> None:
    two = {"a": torch.ones(2), "b": torch.ones(2)}
    create(tmp_path / "file", forms(two)).write("a", two["a"])

    again = create(tmp_path / "file", forms(two))
    another = create(tmp_path / "another", forms({**two, "b": torch.ones(3)}))

    assert again.read("a").tolist() == [1, 1] and again.read("b").tolist() == [0, 0]
    assert another.read("b").tolist() == [0, 0, 0]


def test_a_file_of_other_tensors_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else")

    assert create(tmp_path / "file", {"a": Form([2], torch.float32)}).read("a").tolist() == [0, 0]


def test_a_tensor_of_another_form_is_refused(tmp_path: Path) -> None:
    shard = create(tmp_path / "file", {"a": Form([2], torch.float32)})

    for tensor in (torch.ones(3), torch.ones(2).bfloat16()):
        with pytest.raises(ValueError, match="'a' is .* expected"):
            shard.write("a", tensor)


def test_numbers_that_torch_does_not_have_are_one_sentence(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + b"0")

    with pytest.raises(UserError, match="F8_E8M0: expected weights that are not quantised"):
        Shard(tmp_path / "file")
