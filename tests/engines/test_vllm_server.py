"""What the process that holds vLLM does before vLLM does anything."""

import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image
from safetensors.torch import save_file

from hpa_bench.engines.vllm_server import Prompt, Tensors, WorkerExtension, _inputs, vllm_name


def test_names_of_a_vision_tower() -> None:
    modules = {"vision_tower", "vision_tower.vision_model", "language_model"}

    assert vllm_name("model.vision_tower.encoder.a", modules) == "model.vision_tower.vision_model.encoder.a"
    assert vllm_name("vision_tower.vision_model.encoder.a", modules) == "vision_tower.vision_model.encoder.a"
    assert vllm_name("model.vision_tower.encoder.a", {"vision_tower"}) == "model.vision_tower.encoder.a"
    assert vllm_name("model.language_model.a", modules) == "model.language_model.a"


def test_only_what_is_named_is_read_and_under_vllms_names(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"vision_tower.encoder.a": torch.ones(2), "old": torch.zeros(1)}, first)
    save_file({"language_model.a": torch.full((3,), 2.0)}, second)
    model = torch.nn.ModuleDict({"vision_tower": torch.nn.ModuleDict({"vision_model": torch.nn.Identity()})})
    worker = WorkerExtension()
    worker.model_runner = SimpleNamespace(get_model=lambda: model)  # type: ignore[attr-defined]

    parts = [Tensors(str(first), ["vision_tower.encoder.a"]), Tensors(str(second), ["language_model.a"])]
    read = dict(worker._read(parts))

    assert list(read) == ["vision_tower.vision_model.encoder.a", "language_model.a"]
    assert read["vision_tower.vision_model.encoder.a"].tolist() == [1, 1]
    assert read["language_model.a"].tolist() == [2, 2, 2]


def test_a_prompt_without_images_has_no_empty_list_of_them() -> None:
    image = Image.new("RGB", (2, 2))

    assert _inputs(Prompt([1, 2], [], 3, (), [0])) == {"prompt_token_ids": [1, 2]}
    assert _inputs(Prompt([1], [image], 3, (), [0])) == {
        "prompt_token_ids": [1],
        "multi_modal_data": {"image": [image]},
    }


def test_a_server_whose_parent_ended_before_it_began_ends():
    ended = subprocess.Popen(["true"])
    ended.wait()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "hpa_bench.engines.vllm_server", str(theirs.fileno()), str(ended.pid)]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)

        assert server.wait(60) == -signal.SIGKILL
