"""What the tests of the real vLLM share: requests, what counts as a near-tie, and which processes live."""

from __future__ import annotations

import importlib.util
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from hpa_bench.data.tasks import check_task, load_tasks
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import cut
from hpa_bench.models.prompts import encode, render_prompt
from hpa_bench.results.seals import SEAL
from hpa_bench.spec import RunOptions, make_spec

needs_vllm = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed here: make test-vllm"),
]
NEAR_TIE = 1e-3
"""Two engines may choose differently where the two best tokens' log-probabilities are no further apart (float32)."""
NEAR_TIE_HALF = 1.0
"""The same in 16 bits, where either of the two may be half as far off."""
TINY = Path(make_spec(RunOptions("tiny", "seqft")).suite.model_path())


def tiny_requests(processor: Any, count: int = 256) -> list[Request]:
    """Return requests from every set of the tiny suite, in no order of length, a fifth of them of text alone."""
    suite = make_spec(RunOptions("tiny", "seqft")).suite
    tasks = load_tasks([*suite.tasks, *suite.safety_sets, *suite.benign_sets], suite.task_folders())
    samples = [(sample, task) for task in tasks.values() for sample in check_task(task, "test")]
    chosen = samples[:: len(samples) // count][:count]
    requests = []
    for index, (sample, task) in enumerate(chosen):
        images = [image.convert("RGBA") if index % 7 == 0 else image for image in sample.images]
        prompt = sample.prompt if index % 5 else sample.prompt.replace("<image>", "").strip()
        requests.append(
            Request(
                render_prompt(processor, prompt),
                images if index % 5 else [],
                max_new_tokens=task.config.generation_kwargs["max_gen_toks"],
                stop=("a ", "</s>") if index % 3 == 0 else (),
            )
        )
    return requests


def two_images(processor: Any) -> Request:
    """Return a request about two different images."""
    pictures = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue")]
    return Request(render_prompt(processor, "<image> <image> what is this ?"), pictures, max_new_tokens=12)


def unexplained(
    model: Any,
    processor: Any,
    requests: list[Request],
    ours: list[str],
    theirs: list[str],
    near_tie: float = NEAR_TIE,
) -> list[str]:
    """Return the differences between vLLM's (`ours`) and Hugging Face's responses that are no near-tie.

    A near-tie: where the two begin to differ, Hugging Face's two best tokens are at most `near_tie` nats apart.
    """
    found = []
    for request, said, expected in zip(requests, ours, theirs, strict=True):
        if said != expected:
            # Alone Hugging Face may say what it did not say in a batch.
            gaps = (gap(model, processor, request, each) for each in (said, expected))
            apart = max(each for each in gaps if each is not None)
            if apart > near_tie:
                found.append(f"{request.prompt!r}: {said!r} for {expected!r}, gap {apart:.2g}")
    return found


def gap(model: Any, processor: Any, request: Request, said: str) -> float | None:
    """Return by how much (nats) Hugging Face prefers its token where it leaves what an engine said, if it does."""
    inputs = encode(processor, [request.prompt], [request.images])
    length = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        generated = model.generate(
            **inputs,
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
    tokens = generated.sequences[0, length:]
    for step, scores in enumerate(generated.scores):
        so_far = cut(processor.tokenizer.decode(tokens[: step + 1], skip_special_tokens=True), request.stop).strip()
        last = step == len(generated.scores) - 1
        if not said.startswith(so_far) or (last and said != so_far):
            best = scores[0].float().log_softmax(dim=-1).topk(2).values
            return float(best[0] - best[1])
    return None


def members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def gone(group: int, seconds: float = 60) -> bool:
    """Return whether a process group is empty, or becomes so in time."""
    until = time.monotonic() + seconds
    while members(group) and time.monotonic() < until:
        time.sleep(0.1)
    return not members(group)


def stored(run):
    """Return every response, verdict and score of a run."""
    files = [*run.path.glob("stage*/responses/*"), *run.path.glob("stage*/judgements/*/*")]
    files = [file for file in files if file.name != SEAL]
    files += run.path.glob("stage*/scores.json")
    return {str(file.relative_to(run.path)): file.read_text() for file in files}
