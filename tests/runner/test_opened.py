"""Checkpoints, adapters and samples that do not fit together, or less than a method needs: each is one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.runner.adapt import Watch, adapt
from tests.support.adaptations import adaptation, write_models, write_rows
from tests.support.models import random_llama, random_llava, save_random_llava


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "needs safety": (lambda at: {"safety": None}, "give --safety FILE|TASK"),
    "needs a task": (lambda at: {"task": None}, "give --task FILE|TASK"),
    "needs the unaligned model": (lambda at: {"method": "resta", "unaligned": None}, "give --unaligned DIR"),
    "needs an adapter": (lambda at: {"method": "safelora", "after": str(at / "after")}, "adapter_config.json"),
    "needs theta_0": (lambda at: {"method": "wise_ft:reference=aligned", "stage": 2, "settings": []}, "--start DIR"),
    "needs earlier stages": (
        lambda at: {"method": "magmax", "stage": 2, "start": str(at / "before"), "state": at / "none"},
        "--state",
    ),
    "does its work in training": (lambda at: {"method": "ewc"}, "'ewc' does its work while it trains"),
    "edits nothing": (lambda at: {"method": "seqft"}, "expected one that edits weights"),
    "an unknown key": (lambda at: {"settings": ["p_mx=3"]}, "Did you mean 'p_max'"),
    "no stage": (lambda at: {"stage": 0}, "--stage 0"),
    "no such folder": (lambda at: {"after": str(at / "nowhere")}, "nowhere"),
    "no such file": (lambda at: {"safety": str(at / "none.json")}, "none.json"),
    "no such task": (lambda at: {"task": "tiny_adx"}, "Did you mean 'tiny_ad'"),
    "answers of others": (lambda at: {"answers": other_answers(at)}, "none of the requests of --safety by its id"),
    "none refused": (lambda at: {"answers": compliant_answers(at)}, "refuses none of the 6 requests"),
    "no images": (lambda at: {"safety": without_images(at)}, "None of the 4 samples of --safety has an image"),
    "a task without images": (lambda at: {"task": without_images(at)}, "None of the 4 samples of --task has an image"),
    "another vocabulary": (lambda at: {"after": other(at, "embed_tokens", 5)}, r"embed_tokens.weight' is \[52, 32\]"),
    "other shapes": (lambda at: {"after": other(at, "layers.1.mlp.down_proj", 1)}, "layers.1.mlp.down_proj.weight' is"),
    "fewer blocks": (
        lambda at: {"after": str(save_random_llava(at / "fewer"))},
        "has no 'model.language_model.layers.2",
    ),
    "more blocks": (lambda at: {"after": str(save_random_llava(at / "more", layers=4))}, "is of another model"),
    "another model": (lambda at: {"after": text_model(at)}, "is of another model|has no"),
    "another's adapter": (lambda at: {"after": other_adapter(at)}, "is not of --before"),
    "no LoRA": (lambda at: {"after": changed_adapter(at, peft_type="IA3")}, "no LoRA adapter"),
    "DoRA": (lambda at: {"after": changed_adapter(at, use_dora=True)}, "use_dora"),
    "NaN before": (lambda at: {"before": with_nan(at, "before")}, r"layers.1.mlp.up_proj.weight' of --before .* NaN"),
    "NaN after": (lambda at: {"after": with_nan(at, "after")}, r"layers.1.mlp.up_proj.weight' of --after .* NaN"),
    "NaN in an adapter": (lambda at: {"after": with_nan(at, "adapter")}, "holds NaN or infinite values in"),
    "a cut shard": (lambda at: {"after": cut(at, "after/model.safetensors")}, "model.safetensors is not whole"),
    "a cut adapter": (lambda at: {"after": cut(at, "adapter/adapter_model.safetensors")}, "is not whole"),
    "no weights": (lambda at: {"before": cut(at, "before/model.safetensors", 0)}, "No checkpoint in"),
    "a missing shard of several": (lambda at: {"before": cut_shard(at, "before", 0)}, "00002-of-.* is missing"),
    "a cut shard of several": (lambda at: {"after": cut_shard(at, "after")}, "00002-of-.* is not whole"),
    "a cut index": (lambda at: {"before": cut_shard(at, "before", index=True)}, "index.json is not whole"),
}


def other_answers(at: Path) -> Path:
    write_jsonl(at / "other.jsonl", [{"id": "none of them", "response": "sorry i cannot help with that"}])
    return at / "other.jsonl"


def compliant_answers(at: Path) -> Path:
    write_jsonl(at / "compliant.jsonl", [{"id": f"harm{index}", "response": "red"} for index in range(6)])
    return at / "compliant.jsonl"


def without_images(at: Path) -> str:
    write_rows(at / "words.json", "words", 4, "red", images=False)
    return str(at / "words.json")


def other(at: Path, layer: str, more: int) -> str:
    """A model in which one weight has more rows, as its config.json need not say."""
    folder = Path(shutil.copytree(at / "after", at / "other"))
    tensors = load_file(folder / "model.safetensors")
    (name,) = (name for name in tensors if f"{layer}.weight" in name and "vision" not in name)
    tensors[name] = torch.cat([tensors[name], tensors[name][:more]])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def text_model(at: Path) -> str:
    model, tokenizer = random_llama()
    model.save_pretrained(at / "text")
    tokenizer.save_pretrained(at / "text")
    return str(at / "text")


def other_adapter(at: Path) -> str:
    return str(write_models(at / "wider", layers=4) / "adapter")


def changed_adapter(at: Path, **changes: object) -> str:
    file = at / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return str(at / "adapter")


def with_nan(at: Path, part: str) -> str:
    file = next((at / part).glob("*.safetensors"))
    tensors = load_file(file)
    name = next(name for name in tensors if "layers.1.mlp.up_proj" in name and "vision" not in name)
    tensors[name][0, 0] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    return str(at / part)


def cut(at: Path, file: str, left: int = 1000) -> str:
    (at / file).write_bytes((at / file).read_bytes()[:left])
    if not left:
        (at / file).unlink()
    return str((at / file).parent)


def cut_shard(at: Path, part: str, left: int = 1000, index: bool = False) -> str:
    """Write a model in shards, of which the second is cut, or else their index."""
    folder = at / part
    (folder / "model.safetensors").unlink()
    random_llava(layers=3)[0].save_pretrained(folder, max_shard_size="60KB")
    (second,) = folder.glob("model-00002-of-*")
    return cut(at, f"{part}/{'model.safetensors.index.json' if index else second.name}", left)


@pytest.mark.faults
@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_sentence(fault: str, models: Path, tmp_path: Path) -> None:
    change, sentence = BAD[fault]
    at = Path(shutil.copytree(models, tmp_path / "models"))

    with pytest.raises(UserError, match=sentence) as caught:
        adapt(adaptation(at, tmp_path / "out", **change(at)))

    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_adapter_that_names_another_base_is_merged_with_a_word(models: Path, tmp_path: Path) -> None:
    at = Path(shutil.copytree(models, tmp_path / "models"))
    told: list[str] = []

    for base in ("/elsewhere/before", "another/model"):
        changed_adapter(at, base_model_name_or_path=base)
        adapt(adaptation(at, tmp_path / Path(base).name), Watch(say=told.append))

    assert len(told) == 1 and "was trained on 'another/model'" in told[0] and f"--before is {at / 'before'}" in told[0]
