"""The parts of a LLaVA as they are published, tiny and random: a Vicuna, a CLIP, a projector; and LLaVA's own rules."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM

from tests.support.architectures import CORPUS

SEES, READS = 24, 32
"""Widths of the vision tower and of the language model."""
SIDE, PATCH = 28, 14
SPECIAL = ("<unk>", "<s>", "</s>")
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
UNKNOWN, CONTROL, PLAIN, BYTE = 2, 3, 1, 6
"""Types of a sentencepiece piece."""


def write_parts(folder: Path, legacy: bool | None = False, width: int = READS) -> dict[str, Path]:
    """Write `vicuna/`, `clip/` and `mm_projector.bin` and return their paths.

    Args:
        folder: where to.
        legacy: what the tokenizer's configuration says of it; None: nothing.
        width: that the projector writes.
    """
    torch.manual_seed(0)
    scores = bpe_scores()
    write_vicuna(folder / "vicuna", scores, legacy)
    write_clip(folder / "clip")
    projector = {
        "model.mm_projector.0.weight": torch.randn(width, SEES) / 4,
        "model.mm_projector.0.bias": torch.randn(width),
        "model.mm_projector.2.weight": torch.randn(width, width) / 4,
        "model.mm_projector.2.bias": torch.randn(width),
    }
    torch.save({name: tensor.bfloat16() for name, tensor in projector.items()}, folder / "mm_projector.bin")
    return {
        "language_model": folder / "vicuna",
        "vision": folder / "clip",
        "projector": folder / "mm_projector.bin",
    }


def write_vicuna(folder: Path, scores: Mapping[str, float], legacy: bool | None) -> None:
    """Write a language model as lmsys/vicuna-7b-v1.5 is: pickled shards, `tokenizer.model`, no `tokenizer.json`."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(scores))
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    settings |= {} if legacy is None else {"legacy": legacy}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = LlamaConfig(
        vocab_size=len(pieces_of(scores)),
        hidden_size=READS,
        intermediate_size=2 * READS,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=0,
        dtype="float16",
    )
    model = LlamaForCausalLM(config).half()
    config.save_pretrained(folder)
    weights = dict(model.state_dict())
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)  # As older versions saved it.
    files: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(weights):
        files.setdefault(f"pytorch_model-0000{1 + number % 2}-of-00002.bin", {})[name] = weights[name]
    for file, tensors in files.items():
        torch.save(tensors, folder / file)
    places = {name: file for file, tensors in files.items() for name in tensors}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def write_clip(folder: Path) -> None:
    """Write a whole CLIP as openai/clip-vit-large-patch14-336 is: one pickled file, the older preprocessor."""
    folder.mkdir(parents=True)
    shape = {"hidden_size": SEES, "intermediate_size": 2 * SEES, "num_attention_heads": 4, "num_hidden_layers": 3}
    vision = {**shape, "image_size": SIDE, "patch_size": PATCH, "initializer_factor": 5.0}
    text = {**shape, "vocab_size": 50, "max_position_embeddings": 16, "pad_token_id": 0, "eos_token_id": 2}
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
    model = CLIPModel(config)
    config.save_pretrained(folder)
    weights = dict(model.state_dict())
    weights["vision_model.embeddings.position_ids"] = torch.arange(1 + (SIDE // PATCH) ** 2)[None]
    torch.save(weights, folder / "pytorch_model.bin")
    settings = {
        "crop_size": SIDE,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": SIDE,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def bpe_scores() -> dict[str, float]:
    """Learn byte pairs of a small corpus: each plain piece with its score, the first merge the best."""
    words = " ".join([*CORPUS, SYSTEM, SYSTEM, "USER: ASSISTANT:"] * 2).split()
    texts = [["▁", *word] for word in words]
    scores: dict[str, float] = {}
    while len(scores) < 180:
        counts: dict[tuple[str, str], int] = {}
        for text in texts:
            for pair in pairwise(text):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda pair: (counts[pair], pair))
        if counts[best] < 2:
            break
        scores.setdefault("".join(best), -float(len(scores)))
        texts = [merged(text, best) for text in texts]
    letters = sorted({letter for text in words for letter in text} | {"▁"})
    return scores | {letter: -float(len(scores) + index) for index, letter in enumerate(letters)}


def merged(text: Sequence[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for piece in text:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return found


def pieces_of(scores: Mapping[str, float]) -> list[str]:
    """Return all pieces in the order of their ids: special ones, bytes, plain ones."""
    return [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *scores]


def sentencepiece_model(scores: Mapping[str, float], algorithm: int = 2) -> bytes:
    """Return a `tokenizer.model`: the protobuf message that sentencepiece writes, as far as Llama's has it."""
    kinds = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    message = b""
    for piece in pieces_of(scores):
        kind = kinds.get(piece, PLAIN if piece in scores else BYTE)
        inner = _text(1, piece.encode()) + b"\x15" + struct.pack("<f", scores.get(piece, 0.0))
        message += _text(1, inner + (b"\x18" + bytes([kind]) if kind != PLAIN else b""))
    trainer = b"\x18" + bytes([algorithm]) + _text(7, b"x" * 200) + b"\x98\x02\x01"  # The last: byte fall-back.
    return message + _text(2, trainer) + _text(3, _text(1, b"identity") + b"\x18\x01\x20\x00")


def _text(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 128:
        length += bytes([size % 128 + 128])
        size //= 128
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


class SlowTokenizer:
    """LLaVA's tokenizer: the slow LlamaTokenizer of transformers 4, which asks sentencepiece, written out.

    Args:
        scores: of the plain pieces.
        legacy: how it treats text behind a special token: as a beginning of text, or as it is.
    """

    def __init__(self, scores: Mapping[str, float], legacy: bool) -> None:
        self.scores, self.legacy = scores, legacy
        self.ids = {piece: index for index, piece in enumerate(pieces_of(scores))}

    def __call__(self, text: str) -> list[int]:
        """Return the beginning of text and the tokens of a text."""
        tokens = [self.ids["<s>"]]
        for part, between in enumerate(text.split("</s>")):
            tokens += [self.ids["</s>"]] if part else []
            if between:
                tokens += self._encode(("▁" if self.legacy or not part else "") + between.replace(" ", "▁"))
        return tokens

    def _encode(self, text: str) -> list[int]:
        pieces = list(text)
        while True:
            pairs = [one + two for one, two in pairwise(pieces)]
            known = [(self.scores[pair], -at) for at, pair in enumerate(pairs) if pair in self.scores]
            if not known:
                break
            at = -max(known)[1]
            pieces[at : at + 2] = [pairs[at]]
        return [
            token
            for piece in pieces
            for token in (
                [self.ids[piece]] if piece in self.scores else [self.ids[f"<0x{byte:02X}>"] for byte in piece.encode()]
            )
        ]


def llava_tokens(tokenizer: SlowTokenizer, exchanges: Sequence[tuple[str, str | None]], image: int) -> list[int]:
    """Return the tokens of a conversation as LLaVA's `vicuna_v1` and `tokenizer_image_token` make them.

    The images of a question are moved in front of it, each with a line end; the parts of the prompt between images are
    tokenised each by itself, without their beginnings of text.

    Args:
        tokenizer: LLaVA's.
        exchanges: questions and answers; an answer of None is to be given.
        image: the token that stands for an image.
    """
    prompt = SYSTEM + " "
    for question, answer in exchanges:
        images = question.count("<image>")
        text = "<image>\n" * images + question.replace("<image>", "").strip()
        prompt += f"USER: {text} ASSISTANT:" + ("" if answer is None else f" {answer}</s>")
    first, *rest = (tokenizer(part) for part in prompt.split("<image>"))
    return first + [token for part in rest for token in (image, *part[1:])]
