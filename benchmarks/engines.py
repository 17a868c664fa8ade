"""Requests a second of one at a time, of batches (engine hf) and of vLLM, on the same requests.

python -m benchmarks.engines [--shape tiny|100m|7b] [--requests 256] [--json benchmarks/engines.json]

Needs an environment with vLLM: that of `make test-vllm`, or, for `--shape 7b --requests 1000`, one with vLLM on a GPU.
`tiny` is the embedded model with the embedded suite's requests; the others are LLaVAs with random weights of that size,
asked about random images for 64 new tokens. One at a time is measured on every eighth request. Each figure is the
best of some rounds, in which all take turns. `--json` adds the figures to a file, by shape and machine.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from benchmarks.shapes import SHAPES, random_llava
from hpa_bench.data.tasks import check_task, load_tasks
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.engines.vllm import VLLMEngine
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import render_prompt
from hpa_bench.models.weights import Checkpoint
from hpa_bench.spec import RunOptions, make_spec

SUITE = make_spec(RunOptions("tiny", "seqft")).suite
Contestant = tuple[Callable[[], Any], list[Request]]
"""What makes an engine that keeps nothing of an earlier pass, and its requests."""
NEW_TOKENS = 64


def tiny_requests(processor: Any, count: int) -> list[Request]:
    """Return requests from all sets of the embedded suite, with the tasks' limits."""
    tasks = load_tasks([*SUITE.tasks, *SUITE.safety_sets, *SUITE.benign_sets], SUITE.task_folders())
    found = [
        Request(render_prompt(processor, each.prompt), each.images, task.config.generation_kwargs["max_gen_toks"])
        for task in tasks.values()
        for each in check_task(task, "test")
    ]
    return found[:: max(1, len(found) // count)][:count]


def random_requests(processor: Any, count: int, image_size: int) -> list[Request]:
    """Return questions of several lengths about random images."""
    generator = torch.Generator().manual_seed(0)

    def picture() -> Image.Image:
        pixels = torch.randint(256, (image_size, image_size, 3), generator=generator, dtype=torch.uint8)
        return Image.fromarray(pixels.numpy())

    questions = ["<image> what is this ?" + " is it red ?" * (index % 8) for index in range(count)]
    return [Request(render_prompt(processor, question), [picture()], NEW_TOKENS) for question in questions]


def clock() -> float:
    """Return seconds: of the wall on a GPU; of the processor, the engine's processes included, where there is none.

    On one thread each the two agree on an idle machine, and other jobs do not count.
    """
    if torch.cuda.is_available():
        return time.perf_counter()
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [this, *this.children(recursive=True)])


def measure(contestants: dict[str, Contestant], rounds: int) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return requests a second, the best of all rounds, and responses, by name; every round lets each take its turn."""
    best: dict[str, float] = {}
    said: dict[str, list[str]] = {}
    for _ in range(rounds):
        for name, (make_engine, requests) in contestants.items():
            # An engine that has just been made, or given weights, keeps nothing of an earlier pass.
            engine = make_engine()
            started = clock()
            said[name] = engine.generate(requests)
            best[name] = max(best.get(name, 0.0), len(requests) / (clock() - started))
    return best, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["tiny", *SHAPES], default="tiny")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)

    with tempfile.TemporaryDirectory() as temporary:
        path = Path(SUITE.model_path())
        if options.shape != "tiny":
            path = Path(temporary) / "model"
            random_llava(options.shape, path, device, dtype)
        model, processor = load_model(path, device, dtype)
        if options.shape == "tiny":
            requests = tiny_requests(processor, options.requests)
        else:
            requests = random_requests(processor, options.requests, SHAPES[options.shape]["image"])
        vllm = VLLMEngine(model, processor, folder=Path(temporary) / "engine")
        started = time.perf_counter()
        vllm.load(Checkpoint(path, model))
        start = time.perf_counter() - started
        vllm.generate(requests[:4])
        reloads: list[float] = []

        def hf(batch_size: int) -> HFEngine:
            vllm.release()
            return HFEngine(model, processor, batch_size=batch_size)

        def given_weights() -> VLLMEngine:
            started = time.perf_counter()
            vllm.load(Checkpoint(path, model))
            reloads.append(time.perf_counter() - started)
            return vllm

        best, said = measure(
            {
                "one at a time": (lambda: hf(1), requests[::8]),
                "hf": (lambda: hf(options.batch_size), requests),
                "vllm": (given_weights, requests),
            },
            options.rounds,
        )
        vllm.close()

    figures = {
        "shape": options.shape,
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
        "machine": torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} cores, no GPU",
        "seconds": "wall" if gpu else "processor, one thread",
        "dtype": str(dtype).removeprefix("torch."),
        "requests": len(requests),
        "rounds": options.rounds,
        "vllm over one at a time": round(best["vllm"] / best["one at a time"], 1),
        "hf over one at a time": round(best["hf"] / best["one at a time"], 1),
        "vllm over hf": round(best["vllm"] / best["hf"], 2),
        "requests per second": {name: round(value, 2) for name, value in best.items()},
        "hf batch size": options.batch_size,
        "vllm seconds": {"start": round(start, 1), "new weights": round(min(reloads), 2)},
        "equal responses": sum(a == b for a, b in zip(said["vllm"], said["hf"], strict=True)),
        "load average of the machine": round(os.getloadavg()[1], 1),
    }
    print(f"vllm {figures['vllm over one at a time']} times one at a time, hf {figures['hf over one at a time']} times")
    print(json.dumps(figures, indent=1))
    if options.json:
        kept = json.loads(options.json.read_text()) if options.json.exists() else {}
        kept[f"{options.shape} on {figures['machine']}"] = figures
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
