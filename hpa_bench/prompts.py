"""The one place where a user's turn becomes model text, and text and images become model inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpa_bench.errors import UserError
from hpa_bench.samples import PLACEHOLDER

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from hpa_bench.samples import Sample

IGNORED = -100
"""The label of a token that the loss leaves out."""


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
    from jinja2 import TemplateError, TemplateSyntaxError

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


def render_answer(processor: Any, prompt: str, target: str) -> str:
    """Return what follows `render_prompt(processor, prompt)` when the answer is `target`, its end of turn included.

    Raises:
        UserError: the chat template writes the question differently once it is answered.
    """
    opening = render_prompt(processor, prompt)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": target}]
    conversation = render(processor, turns, add_generation_prompt=False)
    if not conversation.startswith(opening):
        raise UserError(
            "The model's chat template cannot be trained on: with an answer, a conversation must start with the very"
            f" text that the generation prompt gives ({opening!r}), but it reads {conversation!r}; correct it, or set"
            " chat_template in the suite (--set chat_template=FILE.jinja)."
        )
    answer = conversation[len(opening) :].rstrip()
    # A template that writes nothing after the answer leaves the end of the turn to the tokenizer.
    return answer + tokenizer_of(processor).eos_token if answer.endswith(target.strip()) else answer


def end_of_turn(processor: Any) -> int | None:
    """Return the token that training puts behind an answer, at which generation stops, or None where there is none.

    Chat templates close a turn with a token of their own (`<|im_end|>`, `<end_of_turn>`), which need not be the
    tokenizer's end of text, nor stand in the checkpoint's generation configuration.
    """
    tokenizer = tokenizer_of(processor)
    try:
        closing = render_answer(processor, "?", "!").rpartition("!")[2]
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

    A row starts with exactly the tokens that the model sees when it generates.

    Returns:
        What the processor makes of the prompts, with what is per token (`input_ids`, `attention_mask`, token types,
        [batch, length]) extended by the answers, and `labels` [batch, length], -100 outside the answers.
    """
    import torch

    texts = [render_prompt(processor, sample.prompt) for sample in samples]
    answers = [
        torch.tensor(_answer_ids(processor, text, render_answer(processor, sample.prompt, sample.target)))
        for text, sample in zip(texts, samples, strict=True)
    ]
    batch = encode(processor, texts, [sample.images for sample in samples], padding_side="right")
    prompt_ids, mask = batch["input_ids"], batch["attention_mask"]
    lengths = mask.sum(dim=1).tolist()
    width = max(length + len(answer) for length, answer in zip(lengths, answers, strict=True))

    for name, tensor in batch.items():
        if tensor.shape == prompt_ids.shape:
            # Token types are 0 for text, so 0 fills both the answers and the padding.
            filler = tokenizer_of(processor).pad_token_id or 0 if name == "input_ids" else 0
            extended = tensor.new_full((len(samples), width), filler)
            extended[:, : tensor.shape[1]] = tensor
            batch[name] = extended
    batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
    for row, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        place = slice(length, length + len(answer))
        batch["input_ids"][row, place] = answer
        batch["labels"][row, place] = answer
        batch["attention_mask"][row, place] = 1
    return batch


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


def _answer_ids(processor: Any, prompt: str, answer: str) -> list[int]:
    """Return the answer's tokens as they stand after the prompt.

    Tokenised on their own they would differ where a tokenizer puts a space in front of every text (SentencePiece).
    """
    special = _add_special_tokens(processor, prompt)
    before, both = tokenizer_of(processor)([prompt, prompt + answer], add_special_tokens=special)["input_ids"]
    if both[: len(before)] == before:
        return list(both[len(before) :])
    return list(tokenizer_of(processor)(answer, add_special_tokens=False)["input_ids"])
