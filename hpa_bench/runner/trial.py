"""One question on trial: whether weights, tokenizer, processor and chat template of a model are of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hpa_bench.data.samples import PLACEHOLDER
from hpa_bench.engines.hf import end_tokens
from hpa_bench.errors import UserError
from hpa_bench.models.prompts import encode, model_inputs, prompt_ids, render_conversation, render_prompt, tokenizer_of

SIDE = 64
"""Pixels of the image that is asked about."""
OF_ONE_MODEL = "config.json, tokenizer.json, tokenizer_config.json, processor_config.json and the chat template"


def check_answers(model: Any, processor: Any, folder: Path) -> None:
    """Put one question to a model, about an image where it sees.

    Args:
        model: the model, on its device.
        processor: its processor or tokenizer, with the chat template that is to be used.
        folder: of its checkpoint, for messages.

    Raises:
        UserError: it has no token that ends a response, or more tokens than weights, or cannot take the question.
    """
    _check_tokens(model, processor, folder)
    sees = tokenizer_of(processor) is not processor
    try:
        text = render_prompt(processor, f"{PLACEHOLDER}\n?" if sees else "?")
        inputs = encode(processor, [text], [[Image.new("RGB", (SIDE, SIDE))] if sees else []])
        with torch.inference_mode():
            model(**{name: tensor.to(model.device) for name, tensor in model_inputs(inputs).items()})
    except torch.OutOfMemoryError:
        raise
    # Whatever transformers and torch raise where parts of two models meet.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        what = "a question about an image" if sees else "a question"
        raise UserError(
            f"The model in {folder} cannot take {what} ({reason}): its {OF_ONE_MODEL} have to be of one model."
        ) from error


def _check_tokens(model: Any, processor: Any, folder: Path) -> None:
    tokenizer, rows = tokenizer_of(processor), model.get_input_embeddings().weight.shape[0]
    most = max([tokenizer.vocab_size - 1, *tokenizer.all_special_ids])
    if most >= rows:
        raise UserError(
            f"The tokenizer in {folder} (tokenizer.json, tokenizer_config.json) has a token {most}, and the model has"
            f" embeddings of {rows}: expected the tokenizer and the config.json of one model."
        )
    ends = end_tokens(model, processor)
    if not ends:
        raise UserError(
            f"The model in {folder} names no token that ends a response: set eos_token in its tokenizer_config.json,"
            " or eos_token_id in its generation_config.json."
        )
    closing = render_conversation(processor, [("?", "!")])[-1].rpartition("!")[2]
    if tokenizer.eos_token is None and not set(ends) & set(prompt_ids(processor, closing)):
        raise UserError(
            f"The model in {folder} learns no token that ends a response: its chat template closes an answer with"
            f" {closing!r}, and its tokenizer_config.json names no eos_token."
        )
