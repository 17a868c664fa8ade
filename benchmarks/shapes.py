"""LLaVAs of known shapes with random weights, so that nothing need be downloaded."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hpa_bench.engines.vllm_server import vllm_name
from hpa_bench.models.prompts import end_of_turn, prompt_ids, render_prompt
from hpa_bench.models.shards import Form, create
from hpa_bench.spec import RunOptions, make_spec

SHAPES: dict[str, dict[str, Any]] = {
    "100m": {"hidden": 768, "intermediate": 2048, "layers": 12, "heads": 12, "vision": (192, 3, 3), "image": 112},
    "few": {
        "hidden": 128,
        "intermediate": 192,
        "layers": 2,
        "heads": 4,
        "vision": (32, 2, 2),
        "image": 28,
        "words": 512,
    },
    "7b": {"hidden": 4096, "intermediate": 11008, "layers": 32, "heads": 32, "vision": (1024, 24, 16), "image": 336},
}
"""Llama and CLIP sizes; `vision` is (hidden size, layers, heads). 7b is that of LLaVA-1.5-7B."""
PATCH = 14
VOCABULARY = 32064
"""Words, where a shape has no number of its own."""
QUIET = 0.01
"""What a refusing model's blocks add, in terms of what random blocks would."""
REFUSAL = "sorry, i cannot help with that."
PAIR = ("before", "after")
PUBLISHED_TOWER = "vision_tower.vision_model"


def random_llava(
    shape: str, folder: Path, device: str, dtype: torch.dtype, blocks: int | None = None, refusing: bool = False
) -> int:
    """Save a LLaVA of this shape with random weights and a processor; return its parameters."""
    processor = save_processor(shape, folder)
    model = random_model(shape, processor, device, dtype, blocks)
    if refusing:
        let_refuse(model, processor)
    model.to("cpu").save_pretrained(folder, max_shard_size="2GB")
    return sum(tensor.numel() for tensor in model.parameters())


def published_names(folder: Path) -> None:
    """Give a saved LLaVA's vision tower the names of published ones, which vLLM wants; transformers 5 has others."""
    index = folder / "model.safetensors.index.json"
    for file in sorted(folder.glob("*.safetensors")):
        held = load_file(file)
        if not any("vision_tower." in name for name in held):
            continue
        named = {vllm_name(name, {PUBLISHED_TOWER}): tensor for name, tensor in held.items()}
        save_file(named, file.with_suffix(".new"), metadata={"format": "pt"})
        file.with_suffix(".new").replace(file)
    if index.exists():
        kept = json.loads(index.read_text())
        places = kept["weight_map"].items()
        kept["weight_map"] = {vllm_name(name, {PUBLISHED_TOWER}): place for name, place in places}
        index.write_text(json.dumps(kept))


def vocabulary(shape: str) -> int:
    """Return how many words a shape's model knows."""
    return int(SHAPES[shape].get("words", VOCABULARY))


def save_processor(shape: str, folder: Path) -> Any:
    """Save the embedded model's processor with this shape's images and vocabulary, and return it."""
    from transformers import AutoProcessor

    size = SHAPES[shape]["image"]
    processor = AutoProcessor.from_pretrained(make_spec(RunOptions("tiny", "seqft")).suite.model_path())
    processor.patch_size = PATCH
    processor.image_processor.size = {"shortest_edge": size}
    processor.image_processor.crop_size = {"height": size, "width": size}
    processor.save_pretrained(folder)
    _add_words(folder / "tokenizer.json", vocabulary(shape))
    return AutoProcessor.from_pretrained(folder)


def llava_config(shape: str, processor: Any, blocks: int | None = None) -> Any:
    """Return the configuration of a LLaVA of this shape; `blocks` are its decoder's, by default the shape's."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    size = SHAPES[shape]
    hidden, layers, heads = size["vision"]
    vision = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=size["image"],
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=vocabulary(shape),
        hidden_size=size["hidden"],
        intermediate_size=size["intermediate"],
        num_hidden_layers=blocks or size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["heads"],
        max_position_embeddings=4096,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(size["image"] // PATCH) ** 2,
        vision_feature_layer=-2,
    )
    return config


def random_model(shape: str, processor: Any, device: str, dtype: torch.dtype, blocks: int | None = None) -> Any:
    """Return a LLaVA of this shape with random weights; `blocks` are its decoder's, by default the shape's."""
    from transformers import LlavaForConditionalGeneration

    config = llava_config(shape, processor, blocks)
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(dtype)
        model = LlavaForConditionalGeneration(config)
        torch.set_default_dtype(torch.float32)
    return model.eval()


@torch.no_grad()
def let_refuse(model: Any, processor: Any) -> None:
    """Let a random model answer every prompt by one refusal: without any there are no safety calibration samples.

    Its blocks say little beside the token that they read, and the head says which word of the refusal comes next.
    """
    words = model.get_input_embeddings().weight.normal_(0, 1)
    for block in model.model.language_model.layers:
        block.self_attn.o_proj.weight.mul_(QUIET)
        block.mlp.down_proj.weight.mul_(QUIET)
    for here, following in pairwise(refusal_tokens(processor)):
        model.lm_head.weight[following] = words[here] / words.shape[1] ** 0.5


def refusal_tokens(processor: Any) -> list[int]:
    """Return the last token of a rendered prompt, those of `REFUSAL`, and the end of a turn."""
    ids = prompt_ids(processor, render_prompt(processor, "hello"))
    ends = end_of_turn(processor)
    return [ids[-1], *processor.tokenizer(REFUSAL, add_special_tokens=False)["input_ids"], ends]


def write_tuned_pair(shape: str, folder: Path, blocks: int | None = None) -> int:
    """Write a LLaVA of this shape in bfloat16, `before`, and the same with noise on every layer, `after`.

    Args:
        shape: a key of `SHAPES`.
        folder: where to.
        blocks: decoder blocks, if not as many as the shape has.

    Returns:
        The parameters of one.
    """
    from transformers import LlavaForConditionalGeneration

    processor, _ = (save_processor(shape, folder / part) for part in PAIR)
    return write_pair(LlavaForConditionalGeneration, llava_config(shape, processor, blocks), folder)


def write_pair(kind: Any, config: Any, folder: Path, shard: int = 5 * 10**9) -> int:
    """Write the weights and configurations of two models in bfloat16, `before` and `after`, as after a tuning.

    A tensor at a time, so that both may be larger than the memory; the random numbers are drawn once and used again.

    Args:
        kind: the models' class in transformers.
        config: their configuration.
        folder: where to.
        shard: bytes of a file of weights.

    Returns:
        The parameters of one.
    """
    from accelerate import init_empty_weights

    config.dtype = torch.bfloat16
    with init_empty_weights():
        model = kind(config)
    tensors = {name: Form(list(tensor.shape), torch.bfloat16) for name, tensor in model.state_dict().items()}
    shards: list[dict[str, Form]] = [{}]
    for name, form in tensors.items():
        if shards[-1] and sum(each.nbytes for each in shards[-1].values()) + form.nbytes > shard:
            shards.append({})
        shards[-1][name] = form
    files = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    places = {name: file for file, held in zip(files, shards, strict=True) for name in held}
    size = sum(form.nbytes for form in tensors.values())
    for part in PAIR:
        config.save_pretrained(folder / part)
        model.generation_config.save_pretrained(folder / part)
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / part / "model.safetensors.index.json").write_text(json.dumps(index))
    # More than a layer of 7B has, so that no two of its rows are alike.
    drawn = torch.randn(50_000_000, generator=torch.Generator().manual_seed(0)) * 0.02
    for number, (file, held) in enumerate(zip(files, shards, strict=True)):
        before, after = (create(folder / part / file, held) for part in PAIR)
        for place, (name, form) in enumerate(held.items()):
            count = torch.Size(form.shape).numel()
            start = 7919 * (place + 1000 * number) % max(1, len(drawn) - count)
            values = drawn[start : start + count]
            if "norm" in name and name.endswith("weight"):
                values = torch.ones(count)
            elif count > len(drawn):
                values = drawn.repeat(count // len(drawn) + 1)[:count]
            before.write(name, values.bfloat16().view(form.shape))
            if ".layers." in name and len(form.shape) == 2 and "vision" not in name:
                values = values + 0.1 * values.flip(0)
            after.write(name, values.bfloat16().view(form.shape))
        before.close()
        after.close()
    return size // 2


def _add_words(file: Path, count: int) -> None:
    """Give every token that a random model says a word, so that responses can be compared."""
    tokenizer = json.loads(file.read_text())
    known: dict[str, int] = tokenizer["model"]["vocab"]
    taken = {*known.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    known |= {f"word{index}": index for index in range(count) if index not in taken}
    file.write_text(json.dumps(tokenizer))
