"""Vicuna as LLaVA reads it: its tokenizer from the original files, and `vicuna_v1` as a chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from struct import unpack
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hpa_bench.data.samples import PLACEHOLDER
from hpa_bench.errors import UserError
from hpa_bench.files import read_object
from hpa_bench.models.config import read_chat_template

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
FILES = ("tokenizer.model", "tokenizer.json")
"""Where its vocabulary may stand, the original first."""
TEMPLATE = Path(__file__).parent / "vicuna_v1.jinja"
"""LLaVA's conversation `vicuna_v1`, as a chat template for tokenizers that put a space behind a special token."""
_REMEDY = "give the folder of lmsys/vicuna-7b-v1.5, as it was downloaded"


class Vocabulary(NamedTuple):
    """A byte-pair encoding on `▁` words with byte fall-back, as Llama's and so Vicuna's is."""

    pieces: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    """In the order in which they are applied."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return Vicuna's tokenizer with `<image>` as one more token, padding with `<unk>` as LLaVA does.

    What LLaVA's slow tokenizer makes of the text behind a special token depends on `legacy` of its
    `tokenizer_config.json`; so does what this one makes, and the chat template with it.

    Args:
        folder: holds `tokenizer.model` or `tokenizer.json`.

    Raises:
        UserError: there is neither, or it is not of Vicuna's kind.
    """
    vocabulary = _vocabulary(folder)
    lacking = next((token for token in (BOS, EOS, UNK, "<0x0A>", "▁") if token not in vocabulary.pieces), None)
    if lacking is not None:
        raise _other_kind(folder, f"it has no {lacking!r}")
    settings = read_object(file) if (file := folder / "tokenizer_config.json").exists() else {}
    # Transformers of LLaVA's time takes a tokenizer that says nothing of it for a legacy one.
    legacy = settings.get("legacy", True) is not False
    tokenizer = _tokenizer(vocabulary, legacy)
    spaced = "" if legacy else "{% set image = '<image> \\n' %}"
    tokenizer.chat_template = spaced + read_chat_template(TEMPLATE)
    return tokenizer


def _tokenizer(vocabulary: Vocabulary, legacy: bool) -> PreTrainedTokenizerFast:
    pieces = dict(vocabulary.pieces)
    backend = Tokenizer(models.BPE(pieces, list(vocabulary.merges), unk_token=UNK, fuse_unk=True, byte_fallback=True))
    if legacy:  # A space before every text between special tokens, also where one stands there.
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, pieces[BOS])]
    )
    backend.add_special_tokens([AddedToken(each, normalized=False) for each in (UNK, BOS, EOS, PLACEHOLDER)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _vocabulary(folder: Path) -> Vocabulary:
    file = next((folder / name for name in FILES if (folder / name).exists()), None)
    if file is None:
        raise UserError(f"There is no tokenizer in {folder}: expected {' or '.join(FILES)}; {_REMEDY}.")
    if file.suffix == ".json":
        model = read_object(file, _REMEDY).get("model")
        if not isinstance(model, dict) or model.get("type") != "BPE" or not model.get("byte_fallback"):
            raise _other_kind(file, "it is no byte-pair encoding with byte fall-back")
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        return Vocabulary(model["vocab"], [(left, right) for left, right in pairs])
    try:
        return _sentencepiece(file)
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{file} is no sentencepiece model ({error}): {_REMEDY}.") from None


def _sentencepiece(file: Path) -> Vocabulary:
    """Read a sentencepiece model: its pieces with their scores, best merged first.

    Of its message `ModelProto`, field 1 is a piece (1 text, 2 score, 3 its type: 1 is plain), field 2 how it was
    trained (3 the algorithm: 2 is byte pairs), field 3 how text is normalised (2 a table of characters).
    """
    pieces: dict[str, int] = {}
    scores: dict[str, float] = {}
    algorithm, normalised = 1, False
    for number, value in _fields(file.read_bytes()):
        inner = dict(_fields(value)) if isinstance(value, bytes) and number in (1, 2, 3) else {}
        if number == 1:
            piece = inner[1].decode()
            pieces[piece] = len(pieces)
            if inner.get(3, 1) == 1:
                scores[piece] = unpack("<f", inner.get(2, bytes(4)))[0]
        elif number == 2:
            algorithm = inner.get(3, 1)
        elif number == 3:
            normalised = bool(inner.get(2))
    if not pieces:
        raise ValueError("it holds no pieces")
    if algorithm != 2 or normalised:
        raise _other_kind(file, "it normalises text" if normalised else "it is no byte-pair encoding")
    found = [
        (-score, pieces[piece[:at]], pieces[piece[at:]], (piece[:at], piece[at:]))
        for piece, score in scores.items()
        for at in range(1, len(piece))
        if piece[:at] in scores and piece[at:] in scores
    ]
    return Vocabulary(pieces, [pair for *_, pair in sorted(found)])


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field of a protobuf message, texts and messages as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if size < 0 or at + size > len(message):
            raise ValueError(f"it is cut, or another file, at byte {at} of {len(message)}")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of a protobuf message, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _other_kind(where: Path, reason: str) -> UserError:
    return UserError(f"The tokenizer in {where} is not Vicuna's: {reason}; {_REMEDY}.")
