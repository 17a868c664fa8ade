"""The LLaVA of transformers from its original parts: a Vicuna, a CLIP vision tower, and the projector of stage 1."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from hpa_bench.data.samples import PLACEHOLDER
from hpa_bench.errors import UserError
from hpa_bench.files import atomic, is_vacant, read_object, remove, write_json
from hpa_bench.machine.disk import GIVE_AGAIN, make_writable, refusals_told
from hpa_bench.models.folder import INDEX, REMEDY, SINGLE, stored_files
from hpa_bench.models.loading import NO_CODE, checkpoint_folder
from hpa_bench.models.vicuna import load_tokenizer

ROWS = 64
"""The vocabulary grows to a multiple of so many rows, as that of the published LLaVA checkpoints."""
FILE_BYTES = 2 * 10**9
"""Of one safetensors file; as much is in memory at a time."""
MANIFEST = "conversion.json"
"""Beside the weights: what they were made from."""
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_FORGOTTEN = ("rotary_emb.inv_freq", "position_ids")
"""Ends of names of what older versions of transformers saved and any version computes."""
KIND = "mlp2x_gelu"
_PROJECTOR = {"0": "linear_1", "2": "linear_2"}
"""The layers of LLaVA-1.5's kind of projector, by the names that transformers has for them."""


@dataclass(frozen=True)
class Parts:
    """What a LLaVA is made of."""

    language_model: str
    """Vicuna: a folder or a hub name."""
    projector: Path
    """`mm_projector.bin` of stage 1."""
    vision: str
    """The CLIP whose vision tower LLaVA sees through: a folder or a hub name."""


def convert_llava(parts: Parts, out: Path, aspect: Literal["pad", "square"] = "pad", dtype: str | None = None) -> None:
    """Write a LLaVA checkpoint: the parts' weights as they are, Vicuna's tokenizer and `vicuna_v1` as chat template.

    The rows that `<image>` and the padding of the vocabulary add are the mean of the others, so that none of them is
    ever the likeliest next token.

    Args:
        parts: what it is made of; pickled weights are read as weights only.
        out: the checkpoint's folder; it must not hold anything yet.
        aspect: how an image that is no square becomes one: padded in the mean colour, as LLaVA-1.5 trains, or cut.
        dtype: the name of a torch dtype, of all weights; by default the language model's.

    Raises:
        UserError: a part is missing, cut, or does not fit the others.
    """
    if not is_vacant(out):
        raise UserError(f"--out {out} exists already and is not empty: choose another folder.")
    projector = _projector(parts.projector)
    patterns = ("*.safetensors", "pytorch_model*.bin")
    language, vision = (checkpoint_folder(name, patterns) for name in (parts.language_model, parts.vision))
    tokenizer = load_tokenizer(language)
    config = _config(language, vision, tokenizer)
    _check_fit(config, projector, parts.projector)
    image_processor = _image_processor(vision, aspect)
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        image_token=PLACEHOLDER,
        chat_template=tokenizer.chat_template,
    )
    make_writable(out.parent)
    files = [*_files(language), *_files(vision)]
    needed, free = sum(file.stat().st_size for file in files), disk_usage(out.parent).free
    if needed > free:
        raise UserError(
            f"The checkpoint takes about {needed / 1e9:.1f} GB, and the file system of {out} has {free / 1e9:.1f} GB"
            " free: free some, or choose another disk with --out."
        )
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with refusals_told(out.parent, GIVE_AGAIN), atomic(out) as partial:
        try:
            processor.save_pretrained(partial)
            wanted = None if dtype is None else getattr(torch, dtype)
            written = _write_weights(partial, _tensors(config, language, vision, projector), wanted)
            _check_whole(config, written)
            config.dtype = written.dtype
            config.save_pretrained(partial)
            GenerationConfig(**tokens).save_pretrained(partial)
            write_json(partial / MANIFEST, _manifest(parts, aspect))
        except UserError:
            remove(partial)
            raise


def _config(language: Path, vision: Path, tokenizer: Any) -> Any:
    text, sight = (_loaded(AutoConfig, folder, "config.json") for folder in (language, vision))
    sight = getattr(sight, "vision_config", sight)
    for what, folder, found, expected in (
        ("language model", language, text, "llama"),
        ("vision model", vision, sight, "clip_vision_model"),
    ):
        if found.model_type != expected:
            raise UserError(f"The {what} in {folder} is {found.model_type!r}: LLaVA-1.5 is made of {expected!r}.")
    if len(tokenizer) != text.vocab_size + 1:
        raise UserError(
            f"The tokenizer in {language} is not Vicuna's: it has {len(tokenizer) - 1} tokens, and the model's"
            f" vocabulary {text.vocab_size} ({language / 'config.json'})."
        )
    text.vocab_size = -(-len(tokenizer) // ROWS) * ROWS
    text.bos_token_id, text.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    side = sight.image_size // sight.patch_size
    kind: Any = LlavaConfig
    return kind(
        vision_config=sight,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(PLACEHOLDER),
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=side * side,
        multimodal_projector_bias=True,
        tie_word_embeddings=text.tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
    )


def _projector(file: Path) -> dict[str, Tensor]:
    """Return the tensors of `mm_projector.bin` by the names of its layers, such as `0.weight`."""
    if not file.is_file():
        raise UserError(f"There is no projector {file}: expected LLaVA's mm_projector.bin of stage 1.")
    beside = file.with_name("config.json")
    # The projector may lie beside another model's configuration, which says nothing of it.
    kind = read_object(beside).get("mm_projector_type", KIND) if beside.exists() else KIND
    found = {name.rpartition("mm_projector.")[2]: tensor for name, tensor in _pickled(file).items()}
    expected = {f"{layer}.{end}" for layer in _PROJECTOR for end in ("weight", "bias")}
    if found.keys() != expected or kind != KIND:
        raise UserError(
            f"{file} is no projector of LLaVA-1.5, which is {KIND!r}: expected {', '.join(sorted(expected))}, and it"
            f" holds {', '.join(sorted(found)) or 'nothing'}" + (f" ({beside}: {kind})." if kind != KIND else ".")
        )
    return found


def _check_fit(config: Any, projector: dict[str, Tensor], file: Path) -> None:
    seen, read = config.vision_config.hidden_size, config.text_config.hidden_size
    forms = {"0.weight": [read, seen], "0.bias": [read], "2.weight": [read, read], "2.bias": [read]}
    for name, form in forms.items():
        if list(projector[name].shape) != form:
            raise UserError(
                f"The projector {file} is of another width: its {name} is {list(projector[name].shape)}, expected"
                f" {form} between a vision model of {seen} and a language model of {read}."
            )


def _image_processor(vision: Path, aspect: Literal["pad", "square"]) -> Any:
    processor = _loaded(AutoImageProcessor, vision, "preprocessor_config.json")
    if aspect == "square":
        return processor
    # The same settings, and `do_pad`, which CLIP's own class does not have.
    settings = processor.to_dict() | {"image_processor_type": "LlavaImageProcessor", "do_pad": True}
    with TemporaryDirectory() as folder:
        write_json(Path(folder, "preprocessor_config.json"), settings)
        return AutoImageProcessor.from_pretrained(folder, **NO_CODE)


def _loaded(kind: Any, folder: Path, file: str) -> Any:
    """Return what transformers makes of a part's file."""
    try:
        return kind.from_pretrained(folder, **NO_CODE)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{folder / file} is missing or cannot be read ({reason}): {REMEDY}.") from None


def _tensors(config: Any, language: Path, vision: Path, projector: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight by its name in published LLaVA checkpoints, which every version of transformers reads."""
    rows = config.text_config.vocab_size
    for name, tensor in _stored(language):
        grows = name in ("model.embed_tokens.weight", "lm_head.weight")
        yield f"language_model.{name}", _grown(tensor, rows) if grows else tensor
    for name, tensor in projector.items():
        layer, _, end = name.partition(".")
        yield f"multi_modal_projector.{_PROJECTOR[layer]}.{end}", tensor
    for name, tensor in _stored(vision):
        # A whole CLIP has a text model too.
        if name.startswith("vision_model."):
            yield f"vision_tower.{name}", tensor


def _grown(tensor: Tensor, rows: int) -> Tensor:
    mean = tensor.float().mean(0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(rows - len(tensor), -1)])


class _Written(NamedTuple):
    """The weights of a checkpoint that was written."""

    dtype: torch.dtype
    shapes: dict[str, list[int]]


def _write_weights(folder: Path, tensors: Iterator[tuple[str, Tensor]], dtype: torch.dtype | None) -> _Written:
    """Write weights to safetensors as they come, and their index; by default in the dtype of the first."""
    places: dict[str, str] = {}
    shapes: dict[str, list[int]] = {}
    waiting: dict[str, Tensor] = {}
    total = size = 0

    def write() -> None:
        file = f"model-{len(set(places.values())) + 1:05}.safetensors"
        save_file(waiting, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(waiting, file))
        waiting.clear()

    for name, tensor in tensors:
        dtype = dtype or tensor.dtype
        waiting[name] = tensor.to(dtype).contiguous()
        shapes[name] = list(tensor.shape)
        size += waiting[name].nbytes
        if size >= FILE_BYTES:
            write()
            total, size = total + size, 0
    if waiting:
        write()
    write_json(folder / INDEX, {"metadata": {"total_size": total + size}, "weight_map": places})
    return _Written(dtype or torch.float32, shapes)


def _check_whole(config: Any, written: _Written) -> None:
    """Refuse weights that lack one of the model, have one too many, or one of another shape."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    shapes = {_plain(name): (name, shape) for name, shape in written.shapes.items()}
    expected = {_plain(name): list(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    for plain, shape in expected.items():
        if plain not in shapes:
            raise UserError(f"The parts lack the weight {plain!r} of a LLaVA: {REMEDY}.")
        name, found = shapes[plain]
        if found != shape:
            raise UserError(f"The weight {name!r} is {found}, and by the config.json of its part {shape}: {REMEDY}.")
    strange = next((name for plain, (name, _) in shapes.items() if plain not in expected), None)
    if strange is not None:
        raise UserError(f"The parts have the weight {strange!r}, which no LLaVA has: {REMEDY}.")


def _plain(name: str) -> str:
    """Return a weight's name as it is alike in published checkpoints and in the modules of any transformers."""
    for published, plain in (("language_model.model.", "language_model."), ("language_model.lm_head.", "lm_head.")):
        if name.startswith(published):
            return plain + name.removeprefix(published)
    return name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")


def _stored(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a checkpoint, from safetensors where it has some, else from pickled weights."""
    for file in _files(folder):
        if file.suffix == ".bin":
            yield from ((name, tensor) for name, tensor in _pickled(file).items() if not name.endswith(_FORGOTTEN))
            continue
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            yield from ((name, opened.get_tensor(name)) for name in names if not name.endswith(_FORGOTTEN))


def _files(folder: Path) -> list[Path]:
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return [folder / name for name in sorted(set(stored_files(folder).values()))]
    if (folder / PICKLED_INDEX).exists():
        places = read_object(folder / PICKLED_INDEX, REMEDY).get("weight_map", {})
        files = [folder / name for name in sorted(set(places.values()))]
    else:
        files = [folder / PICKLED]
    absent = next((file for file in files if not file.is_file()), None)
    if absent is not None:
        raise UserError(f"{absent} is missing: expected a checkpoint ({SINGLE} or {PICKLED}) in {folder}; {REMEDY}.")
    return files


def _pickled(file: Path) -> dict[str, Tensor]:
    """Read pickled weights, and nothing but weights."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{file} cannot be read as weights ({reason}): {REMEDY}.") from None
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise UserError(f"{file} holds something else than tensors by name: {REMEDY}.")
    return found


def _manifest(parts: Parts, aspect: str) -> dict[str, str]:
    return {
        "language_model": parts.language_model,
        "vision": parts.vision,
        "projector": str(parts.projector),
        "projector_sha256": sha256(parts.projector.read_bytes()).hexdigest(),
        "image_aspect_ratio": aspect,
    }
