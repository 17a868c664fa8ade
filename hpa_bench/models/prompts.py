"""The one place where a user's turn becomes model text, and text and images become model inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jinja2 import TemplateError, TemplateSyntaxError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hpa_bench.data.samples import PLACEHOLDER, Sample
from hpa_bench.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Batch = Mapping[str, Tensor]
"""Model inputs by name, as the processor makes them, and `labels` where answers are learned."""

KEPT_BYTES = 256 * 2**20
"""Rows of training batches kept for the next epoch."""
KEPT_CONVERSATIONS = 10_000
"""Conversations kept rendered and tokenised, a few kilobytes each."""
_KEPT: WeakKeyDictionary[Any, dict[tuple[Any, ...], _Learned]] = WeakKeyDictionary()
"""By processor."""
IGNORED = -100
"""The label of a token that the loss leaves out."""


def model_inputs(batch: Batch) -> dict[str, Tensor]:
    """Return what a model is called with: a batch without its labels."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def tokenizer_of(processor: Any) -> Any:
    """Return the tokenizer of a processor; a model that reads text alone has a tokenizer in its place."""
    return getattr(processor, "tokenizer", processor)


def render(processor: Any, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
    """Return chat turns as the text that the model reads, by its own chat template.

    Args:
        processor: a Hugging Face processor or tokenizer.
        messages: turns `{"role", "content"}`; the content is text with `<image>` where an image stands.
        add_generation_prompt: end with what opens the assistant's turn.

    Raises:
        UserError: the model has no chat template, or one that cannot be rendered.
    """
    turns = [{"role": turn["role"], "content": _parts(turn["content"])} for turn in messages]
    if not getattr(processor, "chat_template", None):
        raise UserError(
            f"The model's {type(processor).__name__} has no chat template, so a question cannot be put to it: set"
            " chat_template in the suite (--set chat_template=FILE.jinja) to a file with the model's Jinja template."
        )
    try:
        return str(processor.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False))
    except (TemplateError, TypeError) as error:  # As where a template adds a turn's parts to a text.
        line = f" at line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        raise UserError(
            f"The model's chat template cannot be rendered{line}: {error}; correct it, or set chat_template in the"
            " suite (--set chat_template=FILE.jinja)."
        ) from None


def render_prompt(processor: Any, prompt: str) -> str:
    """Return one user's turn as the text that the model reads, up to where its answer starts."""
    return render(processor, [{"role": "user", "content": prompt}])


def render_conversation(processor: Any, exchanges: Sequence[tuple[str, str]]) -> list[str]:
    """Return a conversation as the model reads it, in pieces: what opens the first answer, that answer, and so on.

    Args:
        processor: a Hugging Face processor or tokenizer.
        exchanges: questions and answers; the content is text with `<image>` where an image stands.

    Returns:
        Two pieces an exchange; the first is `render_prompt` of its question, an answer holds its end of turn.

    Raises:
        UserError: the chat template writes a question differently once it is answered, or once another follows, or
            nothing ends an answer.
    """
    turns: list[dict[str, str]] = []
    pieces: list[str] = []
    written = ""
    for question, answer in exchanges:
        turns.append({"role": "user", "content": question})
        opening = render(processor, turns)
        turns.append({"role": "assistant", "content": answer})
        conversation = render(processor, turns, add_generation_prompt=False)
        for start, whole in ((written, opening), (opening, conversation)):
            if not whole.startswith(start):
                raise UserError(
                    "The model's chat template cannot be trained on: a conversation must start with the very text that"
                    f" it had a turn before ({start!r}), but it reads {whole!r}; correct it, or set chat_template in"
                    " the suite (--set chat_template=FILE.jinja)."
                )
        answered = conversation[len(opening) :].rstrip()
        # A template that writes nothing after an answer leaves the end of the turn to the tokenizer.
        end = tokenizer_of(processor).eos_token if answered.endswith(answer.strip()) else ""
        if end is None:
            raise UserError(
                "The model has nothing that ends an answer: its chat template writes nothing after one, and its"
                " tokenizer_config.json names no eos_token; add one of the two."
            )
        pieces += [opening[len(written) :], answered + end]
        written = conversation.rstrip()
    return pieces


def check_template(processor: Any, samples: Iterable[Sample]) -> None:
    """Refuse a chat template that conversations as long as those of the samples cannot be trained on.

    Raises:
        UserError: see `render_conversation`.
    """
    longest = max((len(sample.further) for sample in samples), default=0)
    render_conversation(processor, [("?", "!")] * (1 + longest))


def end_of_turn(processor: Any) -> int | None:
    """Return the token that training puts behind an answer, at which generation stops, or None where there is none.

    Chat templates close a turn with a token of their own (`<|im_end|>`, `<end_of_turn>`), which need not be the
    tokenizer's end of text, nor stand in the checkpoint's generation configuration.
    """
    tokenizer = tokenizer_of(processor)
    try:
        closing = render_conversation(processor, [("?", "!")])[-1].rpartition("!")[2]
    except UserError:
        # Whoever brings rendered text needs no chat template that can be trained on.
        return None
    tokens = tokenizer(closing, add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    return next((token for token in tokens if token in added and added[token].special), None)


def encode(
    processor: Any, texts: Sequence[str], images: Sequence[Sequence[Image]], *, padding_side: str = "left"
) -> dict[str, Tensor]:
    """Return the model inputs of a batch of rendered texts.

    Args:
        processor: a Hugging Face processor or tokenizer.
        texts: rendered texts (see `render`).
        images: the images of each text, in the order of their places in it; all texts have some, or none has.
        padding_side: "left" to generate, "right" to train.

    Raises:
        UserError: there are images, and the model reads text alone.
    """
    if any(images) and tokenizer_of(processor) is processor:
        raise UserError(
            "The model reads text alone, but it is asked about images: expected an image-text-to-text model."
        )
    pictures = [[image if image.mode == "RGB" else image.convert("RGB") for image in row] for row in images]
    inputs = processor(
        text=list(texts),
        **({"images": pictures} if any(pictures) else {}),
        padding=True,
        padding_side=padding_side,
        add_special_tokens=_add_special_tokens(processor, texts[0]),
        return_tensors="pt",
    )
    return dict(inputs)


def prompt_ids(processor: Any, text: str) -> list[int]:
    """Return the tokens of a rendered text, with one placeholder an image."""
    special = _add_special_tokens(processor, text)
    return list(tokenizer_of(processor)(text, add_special_tokens=special)["input_ids"])


def training_batch(processor: Any, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Return the model inputs of questions with their answers, padded on the right, and the labels of the answers.

    Every epoch asks for the same samples again: where each of a processor's rows is of one sample alone, rows are kept.
    A row starts with exactly the tokens that the model sees when it generates. Of a conversation of several exchanges
    every answer is learned, as LLaVA does.

    Returns:
        What the processor makes of the prompts, with what is per token (`input_ids`, `attention_mask`, token types,
        [batch, length]) extended by what follows them, and `labels` [batch, length], -100 outside the answers.
    """
    rows = _ROWS.setdefault(processor, _Rows())
    template, filler = getattr(processor, "chat_template", None), tokenizer_of(processor).pad_token_id or 0
    joined = rows.joined(samples, template, filler)
    if joined is not None and rows.alone:
        return joined
    batch = _batch(processor, samples)
    if joined is not None:
        rows.alone = all(torch.equal(joined[name], tensor) for name, tensor in batch.items())
    rows.keep(samples, template, batch)
    return batch


def _batch(processor: Any, samples: Sequence[Sample]) -> dict[str, Tensor]:
    conversations = [_learned(processor, tuple(sample.exchanges)) for sample in samples]
    following = [(each.ids, each.labels) for each in conversations]
    batch = encode(
        processor, [each.opening for each in conversations], [sample.images for sample in samples], padding_side="right"
    )
    prompt_ids, mask = batch["input_ids"], batch["attention_mask"]
    lengths = mask.sum(dim=1).tolist()
    width = max(length + len(ids) for length, (ids, _) in zip(lengths, following, strict=True))

    for name, tensor in batch.items():
        if tensor.shape == prompt_ids.shape:
            # Token types are 0 for text, so 0 fills both the answers and the padding.
            filler = tokenizer_of(processor).pad_token_id or 0 if name == "input_ids" else 0
            extended = tensor.new_full((len(samples), width), filler)
            extended[:, : tensor.shape[1]] = tensor
            batch[name] = extended
    batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
    for row, (length, (ids, labels)) in enumerate(zip(lengths, following, strict=True)):
        place = slice(length, length + len(ids))
        batch["input_ids"][row, place] = torch.tensor(ids)
        batch["labels"][row, place] = torch.tensor(labels)
        batch["attention_mask"][row, place] = 1
    return batch


class _Rows:
    """The rows of training batches, by sample."""

    def __init__(self) -> None:
        self.alone: bool | None = None
        """Whether rows that are put together are what the processor makes of their samples together; None: untried."""
        self._kept: dict[tuple[int, str | None], tuple[Sample, dict[str, Tensor]]] = {}
        """The samples are kept too, so that no other object gets their ids."""
        self._bytes = 0

    def keep(self, samples: Sequence[Sample], template: str | None, batch: Batch) -> None:
        """Keep the rows of a batch, where each of its tensors has one row a sample, and as far as there is room."""
        if self.alone is False or any(len(tensor) != len(samples) for tensor in batch.values()):
            return
        shape, lengths = batch["input_ids"].shape, batch["attention_mask"].sum(dim=1).tolist()
        for index, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            row = {
                name: (tensor[index, :length] if tensor.shape == shape else tensor[index]).clone()
                for name, tensor in batch.items()
            }
            size = sum(tensor.nbytes for tensor in row.values())
            if (id(sample), template) not in self._kept and self._bytes + size <= KEPT_BYTES:
                self._kept[id(sample), template] = sample, row
                self._bytes += size

    def joined(self, samples: Sequence[Sample], template: str | None, filler: int) -> dict[str, Tensor] | None:
        """Return the batch of samples whose rows are all kept, and fit together; else None."""
        keys = [(id(sample), template) for sample in samples]
        if self.alone is False or any(key not in self._kept for key in keys):
            return None
        rows = [self._kept[key][1] for key in keys]
        lengths = [row["input_ids"].shape for row in rows]
        found = {}
        for name in rows[0]:
            if any(name not in row for row in rows):
                return None
            parts = [row[name] for row in rows]
            if [part.shape for part in parts] == lengths:
                value = {"input_ids": filler, "labels": IGNORED}.get(name, 0)
                found[name] = pad_sequence(parts, batch_first=True, padding_value=value)
            elif any(part.shape != parts[0].shape for part in parts):
                return None
            else:
                found[name] = torch.stack(parts)
        return found


_ROWS: WeakKeyDictionary[Any, _Rows] = WeakKeyDictionary()
"""By processor."""


class _Learned(NamedTuple):
    """A conversation as it is trained on."""

    opening: str
    """Up to where the first answer starts, as text."""
    ids: list[int]
    """The tokens behind it."""
    labels: list[int]


def _learned(processor: Any, exchanges: tuple[tuple[str, str], ...]) -> _Learned:
    """Return a conversation as it is trained on; every epoch asks for the same ones again."""
    kept = _KEPT.setdefault(processor, {})
    key = exchanges, getattr(processor, "chat_template", None)
    if key in kept:
        return kept[key]
    pieces = render_conversation(processor, exchanges)
    found = _Learned(pieces[0], *_following(processor, pieces))
    if len(kept) < KEPT_CONVERSATIONS:
        kept[key] = found
    return found


def _parts(content: str) -> list[dict[str, str]]:
    """Split a turn at its images into the parts that chat templates expect."""
    parts: list[dict[str, str]] = []
    for index, text in enumerate(content.split(PLACEHOLDER)):
        if index:
            parts.append({"type": "image"})
        # Templates put their own separator beside an image.
        if stripped := text.strip():
            parts.append({"type": "text", "text": stripped})
    return parts


def _add_special_tokens(processor: Any, text: str) -> bool:
    """Whether the tokenizer must add what the template has not written: one beginning of text, never two."""
    bos = getattr(tokenizer_of(processor), "bos_token", None)
    return not (bos and text.startswith(bos))


def _following(processor: Any, pieces: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the tokens of all pieces of a conversation but the first, as they stand after it, and their labels.

    Tokenised on their own they would differ where a tokenizer puts a space in front of every text (SentencePiece).
    """
    special = _add_special_tokens(processor, pieces[0])
    tokenizer = tokenizer_of(processor)
    before, *longer = tokenizer(list(accumulate(pieces)), add_special_tokens=special)["input_ids"]
    ids: list[int] = []
    labels: list[int] = []
    for index, (piece, whole) in enumerate(zip(pieces[1:], longer, strict=True)):
        if whole[: len(before)] == before:
            added = list(whole[len(before) :])
        else:
            added = list(tokenizer(piece, add_special_tokens=False)["input_ids"])
        ids += added
        labels += [IGNORED] * len(added) if index % 2 else added
        before = whole
    return ids, labels
