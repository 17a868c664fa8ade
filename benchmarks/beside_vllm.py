"""The part `vllm` of `check_gpu`: vLLM by itself beside this project's engine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from benchmarks import raw_vllm
from benchmarks.engines import random_requests
from benchmarks.gpu_parts import Check, claim, emptied
from benchmarks.shapes import SHAPES, published_names, random_llava
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import end_tokens
from hpa_bench.engines.vllm import VLLMEngine
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import prompt_ids, tokenizer_of
from hpa_bench.models.weights import Checkpoint


def beside_vllm(check: Check) -> dict[str, Any]:
    """Ask the same of vLLM by itself and then of this project's engine, and measure how the engine takes its turns."""
    folder = check.work / "vllm-model"
    random_llava(check.shape, folder, "cuda", torch.bfloat16, check.blocks)
    published_names(folder)
    emptied()
    model, processor = load_model(folder, "cpu", torch.bfloat16)
    requests = random_requests(processor, 128 if check.wide else 16, SHAPES[check.shape]["image"])
    asked = [
        raw_vllm.Question(prompt_ids(processor, each.prompt), each.images, each.max_new_tokens) for each in requests
    ]
    ends = end_tokens(model, processor)
    raw = raw_vllm.ask(folder, "bfloat16", torch.device("cuda", 0), (asked, ends), check.work / "raw-vllm")
    decode = tokenizer_of(processor).decode
    said = [decode(tokens, skip_special_tokens=True).strip() for tokens in raw.tokens]

    free = {"before the engine starts": free_of_card()}
    with closing(VLLMEngine(model.to("cuda"), processor, folder=check.work / "engine")) as engine:
        found = turns(engine, folder, requests, len(raw.seconds), said)
        free |= {"while it is awake": free_of_card()}
        engine.client.sleep()
        free |= {"while it sleeps": free_of_card()}
        client = engine.client
    shutil.rmtree(folder)
    seconds = {"raw vllm": min(raw.seconds), "the engine": found.pop("seconds of requests")}
    return {
        "requests": len(requests),
        "requests a second": {name: round(len(requests) / value, 2) for name, value in seconds.items()},
        "the engine over raw vllm": round(seconds["raw vllm"] / seconds["the engine"], 2),
        **found,
        "seconds until raw vllm takes requests": round(raw.start, 1),
        "GB free on the card": free,
        "claims": [
            claim("the probe's distance from Hugging Face's, at most", client.tolerance, client.distance, "nats"),
            claim("free again while vLLM sleeps", free["before the engine starts"], free["while it sleeps"], "GB"),
            claim("seconds of vLLM's start, at least", 10, found["seconds until the engine takes requests"], "s"),
        ],
    }


def turns(
    engine: VLLMEngine, folder: Path, requests: Sequence[Request], rounds: int, expected: Sequence[str]
) -> dict[str, Any]:
    """Start the engine, take turns with it in some rounds, each with new weights, and compare what it says in the last.

    The engine has the card when this returns.
    """

    def given_weights() -> float:
        started = time.perf_counter()
        engine.load(Checkpoint(folder, engine.model))
        return time.perf_counter() - started

    start = given_weights()
    engine.generate(requests[:4])
    weights, seconds = [], []
    for _ in range(rounds):
        engine.release()
        weights.append(given_weights())
        started = time.perf_counter()
        responses = engine.generate(requests)
        seconds.append(time.perf_counter() - started)
    equal = sum(ours == theirs for ours, theirs in zip(responses, expected, strict=True))
    return {
        "seconds of requests": min(seconds),
        "equal responses": f"{equal} of {len(responses)}",
        "seconds until the engine takes requests": round(start, 1),
        "seconds for new weights": round(min(weights), 2),
    }


def free_of_card() -> float:
    """Return the GB of the card that nobody holds."""
    return round(torch.cuda.mem_get_info()[0] / 1e9, 2)
