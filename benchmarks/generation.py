"""Batched generation against one sample at a time, on the tiny suite's aligned model and its own test questions.

python benchmarks/generation.py [--requests 256]
"""

import argparse
import time

import torch

from hpa_bench.engines import Request
from hpa_bench.engines.hf import HFEngine, load_model
from hpa_bench.prompts import render_prompt
from hpa_bench.samples import check_task, load_tasks
from hpa_bench.spec import make_spec

TARGET = 8.0


def throughput(engine: HFEngine, requests: list[Request]) -> tuple[float, list[str]]:
    """Return requests a second and the responses."""
    started = time.perf_counter()
    responses = engine.generate(requests)
    return len(requests) / (time.perf_counter() - started), responses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    suite = make_spec("tiny", "seqft").suite
    model, processor = load_model(suite.model_path())
    tasks = load_tasks(suite.tasks, suite.task_folders())
    share = -(-options.requests // len(tasks))
    samples = [sample for task in tasks.values() for sample in check_task(task, "test")[:share]][: options.requests]
    requests = [Request(render_prompt(processor, each.prompt), each.images, options.tokens) for each in samples]

    # Fresh engines keep no model inputs of an earlier pass, so both sides prepare every image.
    HFEngine(model, processor).generate(requests[:8])
    some = requests[:: max(1, len(requests) // 64)]
    single, said = throughput(HFEngine(model, processor, batch_size=1), some)
    batched, responses = throughput(HFEngine(model, processor, batch_size=64), requests)
    again, _ = throughput(HFEngine(model, processor, batch_size=1), some)
    same = sum(response == responses[requests.index(request)] for request, response in zip(some, said, strict=True))
    slow = (single + again) / 2
    print(f"{batched / slow:.1f} times the throughput of one at a time (target {TARGET:.0f})")
    print(f"{batched:.0f} requests/s in batches of 64, {slow:.0f} one at a time; {same}/{len(some)} responses equal")
    print(f"{len(requests)} requests of at most {options.tokens} tokens, {options.threads} thread(s)")


if __name__ == "__main__":
    main()
