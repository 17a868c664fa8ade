"""Whether this GPU does what the documentation says of memory, time and equality, in one JSON.

python -m benchmarks.check_gpu [--shape 7b] [--blocks N] [--parts run,edit] [--json check-gpu.json] [--work FOLDER]

Trains, edits and generates with a LLaVA of this shape and random weights, in bfloat16, so that nothing is downloaded:
every method with the embedded model; the memory and the time of single parts at this shape; and a run of two stages of
`hpa` as suite `cvit` trains (rank 128, 16 samples, recomputed activations), by hf and, where it is installed, by vLLM.
`--blocks` makes the decoder shorter, for a smaller card or disk: `generation` of all of 7B held 39 GB of an H200, and
`run` writes three checkpoints of 14 GB. There `edit`, `edit_memory`, `training_memory` and `generation` took two
minutes together; `methods`, `embedded` and `run` were not timed to their ends. A part that fails is told, the others go
on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks import edit_memory, hpa_floor
from benchmarks.engines import measure, random_requests
from benchmarks.shapes import SHAPES, VOCABULARY, random_llava, random_model, save_processor
from hpa_bench import run
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.method import Method, methods
from hpa_bench.models.adapters import LoRAConfig, attach_lora
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_processor
from hpa_bench.models.prompts import training_batch
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.environment import environment
from hpa_bench.runner.events import (
    Adapted,
    Event,
    Generated,
    Generating,
    Observer,
    RunStarted,
    StageStarted,
    Trained,
    TrainStep,
)
from hpa_bench.runner.training import Training, train
from hpa_bench.spec import RunOptions, make_spec
from hpa_bench.suite import TrainingConfig

KEPT_PER_TOKEN = {False: 204_680, True: 8_192}
"""Bytes of activations a token and block of 7B, without and with recomputing (benchmarks/activation_memory.py)."""
EDITS = {"hpa": 4.0, "magnitude_columns": 1.1, "wise_ft": 1.4, "magmax": 1.7, "ties": 2.1, "resta": 2.2}
"""GB that docs/models.md says an edit holds beside a model of 7B."""
NATIVE = ["numerics=native", "image_features.keep=false"]
TASKS = ["tiny_ad", "tiny_imagenet"]


@dataclass
class Check:
    """What is checked, and where.

    Attributes:
        shape: a key of `SHAPES`.
        blocks: of the decoder.
        work: a folder for models and runs.
    """

    shape: str
    blocks: int
    work: Path

    @property
    def rank(self) -> int:
        """Of LoRA, as in suite `cvit`."""
        return 128 if self.wide else 8

    @property
    def batch(self) -> int:
        """Samples of a training step, as in suite `cvit`."""
        return 16 if self.wide else 4

    @property
    def samples(self) -> int:
        """Training samples of a task: a few steps' worth."""
        return 3 * self.batch

    def random_model(self) -> tuple[Any, Any]:
        """Return a model on the card, and its processor."""
        processor = save_processor(self.shape, self.work / "processor")
        return random_model(self.shape, processor, "cuda", torch.bfloat16, self.blocks), processor

    @property
    def wide(self) -> bool:
        """Whether the decoder has the widths of which docs/models.md speaks."""
        return self.shape == "7b"


def claim(what: str, claimed: float, measured: float, unit: str) -> dict[str, Any]:
    """Return what the documentation says beside what is measured."""
    figures = {"claimed": round(claimed, 2), "measured": round(measured, 2), "ratio": round(measured / claimed, 2)}
    return {"what": what, "unit": unit, **figures}


class Peaks(Observer):
    """Notes the bytes that torch holds at most in each step of each stage, and the seconds of optimiser steps."""

    STEPS = {RunStarted: "load", Trained: "train", Adapted: "adapt", Generated: "generate"}

    def __init__(self) -> None:
        self.peaks: dict[str, dict[str, float]] = {}
        self.seconds: list[float] = []
        self._stage = "setup"
        self._last = time.perf_counter()

    def observe(self, event: Event) -> None:
        """Note what an event ends."""
        if isinstance(event, StageStarted):
            self._stage = f"stage {event.stage}"
        if isinstance(event, TrainStep):
            self.seconds.append(event.seconds)
        if step := self.STEPS.get(type(event)):
            self.peaks.setdefault(self._stage, {})[step] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            torch.cuda.reset_peak_memory_stats()
        if not isinstance(event, TrainStep | Generating):
            now = time.perf_counter()
            peak = ", ".join(f"{value} GB" for value in [self.peaks.get(self._stage, {}).get(step or "")] if value)
            print(f"{now - self._last:6.1f} s until {self._stage}: {event.kind} {peak}", flush=True)
            self._last = now


def whole_run(check: Check) -> dict[str, Any]:
    """Take a random model that refuses through two stages of HPA, by hf and, where it is installed, by vLLM."""
    started = time.perf_counter()
    model = check.work / "model"
    parameters = random_llava(check.shape, model, "cuda", torch.bfloat16, check.blocks, refusing=True)
    emptied()
    found: dict[str, Any] = {"parameters": parameters, "seconds to make the model": since(started)}
    engines = ["hf", *(["vllm"] if find_spec("vllm") else [])]
    runs = {engine: one_run(check, engine) for engine in engines}
    found |= {f"by {engine}": figures for engine, (_, figures) in runs.items()}
    if "vllm" in runs:
        found["equal responses of hf and vllm"] = equal_responses(*(done for done, _ in runs.values()))
    tokens = tokens_of(load_processor(model))
    found["tokens a training sample"] = round(tokens)
    if check.wide:
        peaks = found["by hf"]["peaks in GB"]
        weights = 2 * parameters / 1e9
        adapters = 16 * check.blocks * check.rank * (4 * 2 * 4096 + 3 * (4096 + 11008)) / 1e9
        training = weights + adapters + check.batch * per_sample(check, tokens, recomputing=True)
        edit = weights + EDITS["hpa"] + 2 * (8 + check.samples) * tokens * 4096 / 1e9
        peak = max(max(steps.values()) for steps in peaks.values())
        found["claims"] = [
            claim("the weights, once loaded", weights, peaks["setup"]["load"], "GB"),
            claim("training, 16 samples, recomputed activations", training, peaks["stage 1"]["train"], "GB"),
            claim("the model and an edit of hpa", edit, peaks["stage 1"]["adapt"], "GB"),
            claim("the model twice, or what training takes", max(2 * weights, training), peak, "GB"),
        ]
    return found


def one_run(check: Check, engine: str) -> tuple[RunFolder, dict[str, Any]]:
    """Make the run with an engine, and return it with its times and peaks."""
    watch = Peaks()
    started = time.perf_counter()
    done = run(
        settings=[
            *NATIVE,
            f"model={check.work / 'model'}",
            "unaligned_model=null",
            f"tasks=[{','.join(TASKS)}]",
            "safety_sets=[tiny_unsafe_image]",
            "benign_sets=[]",
            "judges=[keyword]",
            f"lora.rank={check.rank}",
            f"lora.alpha={2 * check.rank}",
            "training.learning_rate=1e-4",
            f"training.limit={check.samples}",
            "training.epochs=1",
            f"training.batch_size={check.batch}",
            "training.gradient_checkpointing=true",
            "evaluation.limit=12",
            "evaluation.batch_size=16",
        ],
        engine=engine,
        out=check.work / f"run-{engine}",
        device="cuda",
        observers=[watch],
    )
    emptied()
    stages = range(len(done.finished_stages()))
    steps = median(watch.seconds)
    return done, {
        "seconds": since(started),
        "seconds by stage": {
            f"stage {index}": {step: round(value, 1) for step, value in done.stage(index).cost["seconds"].items()}
            for index in stages
        },
        "peaks in GB": watch.peaks,
        "seconds a training step": steps,
        "training samples a second": round(check.batch / steps, 1),
    }


def equal_responses(first: RunFolder, second: RunFolder) -> str:
    """Return how many responses of two runs are equal."""
    pairs = [
        (ours["response"], theirs["response"])
        for index in range(len(first.finished_stages()))
        for name in (*TASKS, "tiny_unsafe_image")
        for ours, theirs in zip(first.stage(index).responses(name), second.stage(index).responses(name), strict=True)
    ]
    return f"{sum(ours == theirs for ours, theirs in pairs)} of {len(pairs)}"


def since(started: float) -> float:
    """Return seconds."""
    return round(time.perf_counter() - started, 1)


def per_sample(check: Check, tokens: float, recomputing: bool) -> float:
    """Return the GB that one more sample of a batch takes in training by docs/models.md."""
    block = tokens * KEPT_PER_TOKEN[False] if recomputing else 0
    return (tokens * (check.blocks * KEPT_PER_TOKEN[recomputing] + VOCABULARY * 14) + block) / 1e9


def tokens_of(processor: Any) -> float:
    """Return the mean tokens of a training sample."""
    batch = training_batch(processor, samples := task_samples(16))
    return float(batch["attention_mask"].sum()) / len(samples)


def task_samples(count: int) -> list[Any]:
    """Return training samples of the embedded suite's first task."""
    suite = make_spec(RunOptions("tiny", "seqft")).suite
    return training_samples(load_tasks(TASKS[:1], suite.task_folders())[TASKS[0]])[:count]


def training_memory(check: Check) -> dict[str, Any]:
    """Train on batches of two sizes, without and with recomputed activations, and tell what a sample takes."""
    model, processor = check.random_model()
    wrapped = attach_lora(model, LoRAConfig(rank=check.rank, alpha=check.rank), find_decoder(model).linear_layers)
    tokens = tokens_of(processor)
    found: dict[str, Any] = {"tokens a sample": round(tokens), "claims": []}
    for recomputing, sizes in ((False, (1, 3)), (True, (check.batch // 2, check.batch))):
        peaks, seconds = [], []
        for size in sizes:
            config = TrainingConfig(batch_size=size, epochs=1, gradient_checkpointing=recomputing, workers=0)
            steps: list[float] = []
            with TemporaryDirectory() as folder:
                training = Training(Method(), processor, config, 0, Path(folder), "the check")
                emptied()
                train(wrapped, task_samples(2 * size), training, lambda step, to=steps: to.append(step.seconds))
            peaks.append(torch.cuda.max_memory_allocated())
            seconds.append(median(steps))
        measured = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]) / 1e9
        how = "with recomputing" if recomputing else "without recomputing"
        found[how] = {"batches": sizes, "peaks in GB": [round(peak / 1e9, 2) for peak in peaks], "seconds": seconds}
        if check.wide:
            what = f"one more sample of a batch, {how}"
            found["claims"].append(claim(what, per_sample(check, tokens, recomputing), measured, "GB"))
    return found


def edit_floor(check: Check) -> dict[str, Any]:
    """Time an edit of HPA against what no implementation avoids."""
    shape = SHAPES[check.shape]
    blocks = min(check.blocks, 2)
    size = hpa_floor.Size(shape["hidden"], shape["intermediate"], blocks, tokens=256 if check.wide else 16)
    found = hpa_floor.measure(size, "cuda", 2)
    return {"blocks": blocks, "tokens a sample": size.tokens, **found}


def edit_bytes(check: Check) -> dict[str, Any]:
    """Measure what edits hold beside the model."""
    shape = SHAPES[check.shape]
    rows = list(edit_memory.beside_model(EDITS, shape["hidden"], shape["intermediate"], 2, 4, 32))
    found: dict[str, Any] = {"methods": rows}
    if check.wide:
        found["claims"] = [
            claim(
                f"an edit of {row['method']} beside the model", EDITS[row["method"]], row["GB beside the model"], "GB"
            )
            for row in rows
        ]
    return found


def generation(check: Check) -> dict[str, Any]:
    """Time requests one at a time and in batches, and compare their responses."""
    model, processor = check.random_model()
    requests = random_requests(processor, 128 if check.wide else 16, SHAPES[check.shape]["image"])
    stride = len(requests) // 8
    some = requests[::stride]
    contestants: dict[str, Any] = {
        "one at a time": (lambda: HFEngine(model, processor, batch_size=1), some),
        "hf": (lambda: HFEngine(model, processor, batch_size=64), requests),
    }
    emptied()
    best, said = measure(contestants, 1)
    equal = sum(text == said["hf"][index * stride] for index, text in enumerate(said["one at a time"]))
    return {
        "requests": len(requests),
        "requests a second": {name: round(value, 2) for name, value in best.items()},
        "hf over one at a time": round(best["hf"] / best["one at a time"], 1),
        "equal responses, alone and in batches": f"{equal} of {len(some)}",
        "peak in GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }


def every_method(check: Check) -> dict[str, Any]:
    """Take every registered method through two stages with the embedded model."""
    small = ["training.limit=32", "evaluation.limit=4", f"tasks=[{','.join(TASKS)}]", "training.epochs=1"]
    found: dict[str, Any] = {}
    failed = []
    for name in sorted(methods.names()):
        started = time.perf_counter()
        try:
            run(method=name, settings=[*NATIVE, *small], out=check.work / "methods" / name, device="cuda")
            found[name] = round(time.perf_counter() - started, 1)
        except Exception as error:  # Whatever it is, the other methods are still to be tried.
            traceback.print_exc()
            found[name] = f"missing: {error}"
            failed.append(name)
    if failed:
        raise PartFailed(f"{', '.join(failed)} failed", found)
    return {"seconds": found}


def embedded_suite(check: Check) -> dict[str, Any]:
    """Make the main job on this card, twice, and once stopped in training: are they equal?"""

    class Stop(BaseException):
        pass

    class StopAt(Observer):
        def observe(self, event: Event) -> None:
            if isinstance(event, TrainStep) and (event.stage, event.done) == (2, 30):
                raise Stop

    short = [*NATIVE, f"tasks=[{','.join(TASKS)}]", "training.save_steps=20", "evaluation.limit=50"]
    started = time.perf_counter()
    main = run(settings=NATIVE, out=check.work / "main", device="cuda")
    seconds = time.perf_counter() - started
    once, again, broken = (check.work / name for name in ("once", "again", "broken"))
    for folder in (once, again):
        run(settings=short, out=folder, device="cuda")
    try:
        run(settings=short, out=broken, device="cuda", observers=[StopAt()])
    except Stop:
        run(settings=short, out=broken, device="cuda")
    return {
        "seconds of the main job": round(seconds, 1),
        "scores of the last stage": main.stage(len(main.finished_stages()) - 1).scores,
        "largest difference of a weight": {
            "made again": difference(once, again, 2),
            "stopped and gone on with": difference(once, broken, 2),
        },
    }


def difference(first: Path, second: Path, stage: int) -> float:
    """Return the largest difference of two runs' weights."""
    ours, theirs = (load_file(RunFolder(each).stage(stage).weights / "model.safetensors") for each in (first, second))
    return max(float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours)


class PartFailed(Exception):
    """A part that found something wrong, with what it found."""


PARTS: dict[str, Callable[[Check], dict[str, Any]]] = {
    "methods": every_method,
    "embedded": embedded_suite,
    "edit": edit_floor,
    "edit_memory": edit_bytes,
    "training_memory": training_memory,
    "generation": generation,
    "run": whole_run,
}


def median(values: list[float]) -> float:
    """Return the median of step times, the first, which warms up, aside."""
    return round(statistics.median(values[1:] or values), 4)


def emptied() -> None:
    """Give back what is not used, and begin a new peak."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


@contextmanager
def noted(file: Path, found: dict[str, Any], name: str) -> Iterator[None]:
    """Print and write a part's figures, or why they are missing, with its seconds."""
    started = time.perf_counter()
    try:
        yield
    except Exception as error:  # The other parts are still to be tried.
        traceback.print_exc()
        found[name] = {"missing": str(error.args[0] if error.args else error), "found": error.args[1:]}
    found[name]["seconds of this part"] = round(time.perf_counter() - started, 1)
    print(json.dumps({name: found[name]}, indent=1), flush=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    emptied()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="7b")
    parser.add_argument("--blocks", type=int, help="of the decoder; by default those of the shape")
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas")
    parser.add_argument("--json", type=Path, default=Path("check-gpu.json"))
    parser.add_argument("--work", type=Path, help="a folder for models and runs; by default a temporary one")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise UserError(
            f"torch {torch.__version__} finds no GPU here: check the driver (nvidia-smi) and torch's build."
        )
    logging.basicConfig(level=logging.WARNING)
    machine = environment("cuda").model_dump(mode="json")
    found: dict[str, Any] = {"machine": machine, "shape": options.shape, "blocks": options.blocks}
    with TemporaryDirectory() as temporary:
        check = Check(options.shape, options.blocks or SHAPES[options.shape]["layers"], options.work or Path(temporary))
        check.work.mkdir(parents=True, exist_ok=True)
        for name in options.parts.split(","):
            with noted(options.json, found, name):
                found[name] = PARTS[name](check)
    return int(any("missing" in part for part in found.values() if isinstance(part, dict)))


if __name__ == "__main__":
    raise SystemExit(main())
