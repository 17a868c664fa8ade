"""Batched generation against one sample at a time: all requests of a stage of the tiny suite, with the tasks' limits.

python benchmarks/generation.py [--threads 2]
"""

import argparse
import os
import time

import torch

from hpa_bench.data.tasks import check_task, load_tasks
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import render_prompt
from hpa_bench.spec import RunOptions, make_spec

TARGET = 8.0


def throughput(engine: HFEngine, requests: list[Request]) -> tuple[float, list[str]]:
    """Return requests a second and the responses."""
    started = time.perf_counter()
    responses = engine.generate(requests)
    return len(requests) / (time.perf_counter() - started), responses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    suite = make_spec(RunOptions("tiny", "seqft")).suite
    batch_size = suite.evaluation.batch_size
    model, processor = load_model(suite.model_path())
    tasks = load_tasks([*suite.tasks, *suite.safety_sets, *suite.benign_sets], suite.task_folders())
    requests = [
        Request(render_prompt(processor, each.prompt), each.images, task.config.generation_kwargs["max_gen_toks"])
        for task in tasks.values()
        for each in check_task(task, "test")
    ]
    # An odd stride takes its share of every question type of every set.
    some = list(range(0, len(requests), 13))

    # Fresh engines keep no model inputs of an earlier pass, so both sides prepare every image.
    HFEngine(model, processor).generate(requests[:64])
    single, said = throughput(HFEngine(model, processor, batch_size=1), [requests[index] for index in some])
    batched, responses = throughput(HFEngine(model, processor, batch_size=batch_size), requests)
    again, _ = throughput(HFEngine(model, processor, batch_size=1), [requests[index] for index in some])
    same = sum(response == responses[index] for index, response in zip(some, said, strict=True))
    slow = (single + again) / 2
    print(f"{batched / slow:.1f} times the throughput of one at a time (target {TARGET:.0f})")
    print(f"{batched:.0f} requests/s in batches of {batch_size}, {slow:.0f} one at a time")
    print(f"{len(requests)} requests, {options.threads} thread(s); {same}/{len(some)} responses equal")


if __name__ == "__main__":
    main()
