"""vLLM itself, without this project's engine, on the same prompts: python -m benchmarks.raw_vllm JOB ANSWER

A process of its own, as vLLM leaves a card for certain only with its process. `ask` starts it: JOB is a pickled `Job`,
and ANSWER becomes the JSON of an `Answer`.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image

from hpa_bench.engines import vllm_client
from hpa_bench.errors import UserError

OPTIONS = (
    "model",
    "dtype",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "enforce_eager",
    "distributed_executor_backend",
    "seed",
)
"""Of `vllm.LLM`, those that are the engine's; all others are vLLM's defaults."""
LIMIT = 900
"""Seconds until the process is given up."""


class Question(NamedTuple):
    """A prompt as vLLM takes it."""

    token_ids: list[int]
    images: Sequence[Image]
    max_new_tokens: int


class Job(NamedTuple):
    """What the process is to do."""

    options: dict[str, Any]
    questions: list[Question]
    ends: list[int]
    """The tokens that end a response."""
    rounds: int


class Answer(NamedTuple):
    """What it did."""

    start: float
    """Seconds until vLLM took requests."""
    seconds: list[float]
    """Of each round."""
    tokens: list[list[int]]
    """Of each response, in the last round."""


def ask(
    checkpoint: Path, dtype: str, device: torch.device, asked: tuple[list[Question], list[int]], folder: Path
) -> Answer:
    """Let a new process answer all questions by vLLM, twice, and end it.

    Args:
        checkpoint: a folder whose tensors have published names.
        dtype: of the weights.
        device: what vLLM computes on.
        asked: the questions, and the tokens that end a response.
        folder: where the process's log and what it is told are written.

    Raises:
        UserError: it failed.
    """
    config = vllm_client.VLLMConfig()
    options = vllm_client.llm_options(checkpoint, dtype, device, config)
    environment = vllm_client.process_environment(device, config, 0)
    del environment["VLLM_ENABLE_V1_MULTIPROCESSING"]  # as vLLM does by itself
    job = Job({name: options[name] for name in OPTIONS if name in options}, *asked, rounds=2)
    folder.mkdir(parents=True, exist_ok=True)
    told, answer, log = (folder / name for name in ("raw-job.pickle", "raw-answer.json", "raw-vllm.log"))
    told.write_bytes(pickle.dumps(job))
    with log.open("w") as output:
        command = [sys.executable, "-m", "benchmarks.raw_vllm", str(told), str(answer)]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        with ended(process):
            status = process.wait(LIMIT)
    if status:
        raise UserError(f"vLLM by itself ended with status {status}: {log.read_text()[-2000:]}")
    return Answer(**json.loads(answer.read_text()))


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave nothing of a process and of those that it started."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Do the job of the first argument, and write the answer to the second."""
    from vllm import LLM, SamplingParams

    job: Job = pickle.loads(Path(sys.argv[1]).read_bytes())
    started = time.perf_counter()
    llm = LLM(**job.options)
    start = time.perf_counter() - started
    prompts = [
        {"prompt_token_ids": each.token_ids, "multi_modal_data": {"image": list(each.images)}} for each in job.questions
    ]
    limits = [
        SamplingParams(temperature=0.0, max_tokens=each.max_new_tokens, stop_token_ids=job.ends, ignore_eos=True)
        for each in job.questions
    ]
    llm.generate(prompts[:4], limits[:4], use_tqdm=False)
    seconds: list[float] = []
    for _ in range(job.rounds):
        # Every round is to compute everything, as after new weights.
        llm.reset_prefix_cache()
        llm.reset_mm_cache()
        llm.llm_engine.reset_encoder_cache()
        started = time.perf_counter()
        outputs = llm.generate(prompts, limits, use_tqdm=False)
        seconds.append(time.perf_counter() - started)
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    Path(sys.argv[2]).write_text(json.dumps(Answer(start, seconds, tokens)._asdict()))


if __name__ == "__main__":
    main()
