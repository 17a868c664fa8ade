"""Checkpoints, an adapter and calibration files, as a user of `hpa-bench adapt` has them; and edits to be killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hpa_bench.adaptation import Adaptation
from hpa_bench.files import write_json, write_jsonl
from hpa_bench.models.adapters import LoRAConfig, attach_lora, lora_factors
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.shards import Shard
from hpa_bench.models.weights import Checkpoint, Merged, write_checkpoint
from hpa_bench.plugins import load_plugins
from hpa_bench.runner.adapt import Watch, adapt
from tests.support.faults import processes
from tests.support.models import IMAGE_SIZE, random_llava, save_random_llava
from tests.support.suites import REFUSAL

QUESTIONS = ("what colour is this ?", "how many are there ?", "is it red ?", "is it a dog or a cat ?")


def write_models(folder: Path, layers: int = 3, **options: Any) -> Path:
    """Write `before`, `adapter`, `after` (the two merged), `unaligned`, and what an edit is calibrated on.

    Args:
        folder: where to.
        layers: decoder blocks.
        options: of `save_pretrained`, such as `max_shard_size`.
    """
    model, processor = random_llava(layers=layers)
    model.save_pretrained(folder / "before", **options)
    processor.save_pretrained(folder / "before")
    save_random_llava(folder / "unaligned", layers=layers, seed=1)
    torch.manual_seed(2)
    wrapped: Any = attach_lora(model, LoRAConfig(rank=2, alpha=2), find_decoder(model).linear_layers)
    for factors in lora_factors(wrapped):
        factors.b.data.normal_(std=0.1)
    wrapped.save_pretrained(folder / "adapter")
    before = Checkpoint(folder / "before", random_llava(layers=layers)[0])
    write_checkpoint(folder / "after", before, Merged(before, folder / "adapter"))
    write_rows(folder / "safety.json", "harm", 6, REFUSAL)
    write_rows(folder / "task.json", "task", 9, "red")
    rows = [{"id": f"harm{index}", "response": REFUSAL if index % 3 else "red"} for index in range(6)]
    write_jsonl(folder / "answers.jsonl", rows)
    return folder


def write_rows(file: Path, name: str, count: int, answer: str, images: bool = True) -> None:
    """Write a LLaVA-format file, with images beside it."""
    rows = []
    for index in range(count):
        row: dict[str, Any] = {"id": f"{name}{index}"}
        if images:
            row["image"] = f"{name}{index}.png"
            Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), (40 * index % 256, 90, 20 * index)).save(
                file.parent / row["image"]
            )
        question = "<image>\n" * images + QUESTIONS[index % len(QUESTIONS)]
        rows.append({**row, "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]})
    write_json(file, rows)


def adaptation(folder: Path, out: Path, method: str = "hpa", **changes: Any) -> Adaptation:
    """Return an edit of what `write_models` wrote, with everything that any method needs."""
    asked = {
        "method": method,
        "before": str(folder / "before"),
        "after": str(folder / "adapter"),
        "out": out,
        "safety": str(folder / "safety.json"),
        "task": str(folder / "task.json"),
        "unaligned": str(folder / "unaligned"),
        "answers": folder / "answers.jsonl",
        "settings": ["safety_samples=3", "task_samples=6"],
        "device": "cpu",
    }
    return Adaptation(**{**asked, **changes})


TWO_HOOKS = Path(__file__).with_name("two_hooks.py")
"""A plugin that both hands on and scores other weights than those that were tuned."""


def edit_in_process(asked: Adaptation, kill_at: str | None = None) -> int:
    """Make an edit in a fresh process and return its exit code, -9 where it was killed.

    Args:
        asked: what to edit.
        kill_at: where to kill it. `write 5`: within the sixth weight that is written. Else an event of Python's audit
            hooks and the name of a file or folder: `open NAME`, once it is opened to be written and has lost what it
            held; `os.rename NAME`, before it gets this name; `shutil.rmtree NAME` and `os.remove NAME`, before it goes.
            None lets it finish.
    """
    process = processes.Process(target=_edit, args=(asked, kill_at))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _edit(asked: Adaptation, kill_at: str | None) -> None:
    load_plugins([TWO_HOOKS])
    place, _, what = (kill_at or "").partition(" ")
    if place == "write":
        _die_within(int(what))
    elif place:
        _die_at(place, what)
    adapt(asked, Watch(say=lambda text: None))


def _die_at(wanted: str, name: str) -> None:
    """Kill this process at the first event of a kind about a file or folder of a name."""

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal wanted
        if event != wanted or not isinstance(path := args[event == "os.rename"], str | Path) or Path(path).name != name:
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if event == "open" and args[2] & os.O_TRUNC:
            wanted = ""  # To open it here is such an event, too.
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC))
        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _die_within(count: int) -> None:
    """Kill this process once it has written half of a weight, after so many others."""
    write = Shard.write
    written = 0

    def half(shard: Shard, name: str, tensor: torch.Tensor) -> None:
        nonlocal written
        if written == count:
            whole = shard.read(name).flatten()
            whole[: len(whole) // 2] = tensor.flatten()[: len(whole) // 2]
            write(shard, name, whole.view(tensor.shape))
            os.kill(os.getpid(), signal.SIGKILL)
        written += 1
        write(shard, name, tensor)

    Shard.write = half  # type: ignore[method-assign]
