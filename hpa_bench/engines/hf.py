"""Generation by Hugging Face transformers: batched, left-padded, sorted by length, greedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from hpa_bench.engines.base import Engine, Progress, Request
from hpa_bench.models.prompts import encode, end_of_turn, tokenizer_of

KEPT_BYTES = 256 * 2**20
"""Model inputs kept for the next time that the same requests come: every stage asks what the stage before asked."""


class HFEngine(Engine):
    """Generates with a loaded model, whatever weights it holds at the time of the call.

    Args:
        model: an image-text-to-text model, or a causal language model for requests without images.
        processor: its processor, or its tokenizer.
        batch_size: requests generated at a time.
    """

    name = "hf"

    def __init__(self, model: Any, processor: Any, batch_size: int = 64) -> None:
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        self._kept: dict[tuple[int, ...], tuple[Sequence[Request], dict[str, Tensor]]] = {}
        self._kept_bytes = 0

    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order, without surrounding white space.

        The model is in eval mode meanwhile; its mode is restored.
        """
        responses = [""] * len(requests)
        done = 0
        with eval_mode(self.model), torch.inference_mode():
            for batch in self._batches(requests):
                for index, response in zip(batch, self._respond([requests[i] for i in batch]), strict=True):
                    responses[index] = response
                done += len(batch)
                if on_progress:
                    on_progress(done, len(requests))
        return responses

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Yield the indices of requests that go together: same limits, with images or without, of similar length."""

        def kind(index: int) -> tuple[Any, ...]:
            request = requests[index]
            return request.max_new_tokens, request.stop, len(request.images) > 0

        # The same question gets answers of about the same length, so a batch of it wastes little on finished rows.
        def cost(index: int) -> tuple[int, int, str]:
            return len(requests[index].images), len(requests[index].prompt), requests[index].prompt

        order = sorted(range(len(requests)), key=lambda index: (kind(index), cost(index)))
        for _, group in groupby(order, key=kind):
            indices = list(group)
            for start in range(0, len(indices), self.batch_size):
                yield indices[start : start + self.batch_size]

    def _respond(self, requests: Sequence[Request]) -> list[str]:
        inputs = self._encoded(requests)
        generated = self.model.generate(
            **{name: tensor.to(self.model.device) for name, tensor in inputs.items()},
            generation_config=self._config(requests[0]),
            stopping_criteria=self._stopping(requests[0].stop, inputs["input_ids"].shape[1]),
        )
        tokens = generated[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer_of(self.processor).batch_decode(tokens, skip_special_tokens=True)
        return [cut(text, requests[0].stop).strip() for text in texts]

    def _encoded(self, requests: Sequence[Request]) -> dict[str, Tensor]:
        key = tuple(id(request) for request in requests)
        if key in self._kept:
            return self._kept[key][1]
        inputs = encode(
            self.processor, [request.prompt for request in requests], [request.images for request in requests]
        )
        self._kept_bytes += sum(tensor.nbytes for tensor in inputs.values())
        if self._kept_bytes <= KEPT_BYTES:
            # The requests are kept too, so that no other object gets their ids.
            self._kept[key] = requests, inputs
        return inputs

    def _config(self, request: Request) -> Any:
        """Return a plain greedy search; what the checkpoint says about sampling and penalties is overruled."""
        tokenizer = tokenizer_of(self.processor)
        ends = end_tokens(self.model, self.processor)
        padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
        return GenerationConfig(
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=ends or None,
            pad_token_id=padding,
        )

    def _stopping(self, stop: tuple[str, ...], prompt_length: int) -> list[Any]:
        """End a row once it holds a stop string (transformers' own criterion fails on word-level tokenizers)."""

        def stopped(tokens: Tensor, scores: Any, **_: Any) -> Tensor:
            texts = tokenizer_of(self.processor).batch_decode(tokens[:, prompt_length:], skip_special_tokens=True)
            ended = [any(end in text for end in stop) for text in texts]
            return torch.tensor(ended, device=tokens.device)

        return [stopped] if stop else []


def end_tokens(model: Any, processor: Any) -> list[int]:
    """Return the tokens that end a response: the generation config's, the tokenizer's, and what closes a turn."""
    ends = model.generation_config.eos_token_id
    ends = {ends} if isinstance(ends, int) else set(ends or ())
    own = (tokenizer_of(processor).eos_token_id, end_of_turn(processor))
    return sorted(ends | {end for end in own if end is not None})


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Put a model into eval mode for a while."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def cut(text: str, stop: tuple[str, ...]) -> str:
    """Return the text before the first stop string."""
    return text[: min((text.find(end) for end in stop if end in text), default=len(text))]
