"""A stranger's engine."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from hpa_bench import Engine, Request


class OneByOne(Engine):
    """Generates one response at a time, with the model that the run trains."""

    name: ClassVar[str] = "one_by_one"

    def __init__(self, model: Any, processor: Any, batch_size: int = 64) -> None:
        self.model = model
        self.processor = processor

    def generate(self, requests: Sequence[Request], on_progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Return one response a request, in their order."""
        responses = []
        for request in requests:
            images = {"images": [list(request.images)]} if request.images else {}
            inputs = self.processor(text=[request.prompt], **images, return_tensors="pt")
            with torch.inference_mode():
                tokens = self.model.eval().generate(**inputs, max_new_tokens=request.max_new_tokens, do_sample=False)
            answer = tokens[0, inputs["input_ids"].shape[1] :]
            responses.append(self.processor.decode(answer, skip_special_tokens=True).strip())
            if on_progress:
                on_progress(len(responses), len(requests))
        return responses
