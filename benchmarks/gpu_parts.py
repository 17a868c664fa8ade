"""The parts of `check_gpu`, each a function of a `Check` that returns its figures."""

from __future__ import annotations

import gc
import shutil
import statistics
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks import edit_memory, fitting, hpa_floor
from benchmarks.engines import measure, random_requests
from benchmarks.shapes import SHAPES, random_llava, random_model, save_processor
from hpa_bench import run
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.engines.hf import HFEngine
from hpa_bench.method import Method, methods
from hpa_bench.models.adapters import LoRAConfig, attach_lora
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model, load_processor
from hpa_bench.models.prompts import training_batch
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import stage_scores
from hpa_bench.runner.evaluation import Evaluator
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

NATIVE = ["numerics=native", "image_features.keep=false"]
TASKS = ["tiny_ad", "tiny_imagenet"]
SETS = [*TASKS, "tiny_unsafe_image"]
TESTED = 12
"""Rows of each set that `run` generates for."""


@dataclass
class Check:
    """What is checked, and where.

    Attributes:
        shape: a key of `SHAPES`.
        blocks: of the decoder.
        work: a folder for models and runs.
        rows: training rows of a task of the embedded suite; by default as many as each part is meant to have.
        methods: that the part of this name makes; by default all.
    """

    shape: str
    blocks: int
    work: Path
    rows: int | None = None
    methods: Sequence[str] = ()

    @property
    def rank(self) -> int:
        """Of LoRA, as in suite `cvit`."""
        return fitting.RANK if self.wide else 8

    @property
    def batch(self) -> int:
        """Samples of a training step, as in suite `cvit`."""
        return fitting.BATCH if self.wide else 4

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
        return self.shape == fitting.WIDE


def claim(what: str, claimed: float, measured: float, unit: str) -> dict[str, Any]:
    """Return what the documentation says beside what is measured."""
    figures = {"claimed": claimed, "measured": measured, "ratio": measured / claimed}
    return {"what": what, "unit": unit, **{name: float(f"{value:.3g}") for name, value in figures.items()}}


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
    by_hf, found["by hf"] = one_run(check, "hf")
    found["equal responses of hf and hf in other batches, last stage"] = again_in_batches(by_hf, 5)
    by_hf.stage(last_of(by_hf)).drop_weights()  # the disk need not hold what both leave
    emptied()
    if find_spec("vllm"):
        by_vllm, found["by vllm"] = one_run(check, "vllm")
        by_vllm.stage(last_of(by_vllm)).drop_weights()
        pairs = [equal_responses(by_hf, by_vllm, stage) for stage in range(last_of(by_hf) + 1)]
        found["equal responses of hf and vllm"] = f"{sum(map(sum, pairs))} of {sum(map(len, pairs))}"
        found["by stage"] = [f"{sum(equal)} of {len(equal)}" for equal in pairs]
    tokens = tokens_of(load_processor(model))
    shutil.rmtree(model)
    found["tokens a training sample"] = round(tokens)
    if check.wide:
        peaks = found["by hf"]["peaks in GB"]
        weights = 2 * parameters / 1e9
        sample = fitting.per_sample(check.blocks, tokens, recomputing=True)
        training = weights + fitting.adapters(check.blocks) + check.batch * sample
        edit = weights + fitting.EDITS["hpa"] + 2 * (8 + check.samples) * tokens * 4096 / 1e9
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
            f"evaluation.limit={TESTED}",
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


def last_of(done: RunFolder) -> int:
    """Return the last stage."""
    return len(done.finished_stages()) - 1


def equal_responses(first: RunFolder, second: RunFolder, stage: int) -> list[bool]:
    """Return which responses of a stage of two runs are equal."""
    return [
        ours["response"] == theirs["response"]
        for name in SETS
        for ours, theirs in zip(first.stage(stage).responses(name), second.stage(stage).responses(name), strict=True)
    ]


def again_in_batches(done: RunFolder, batch_size: int) -> str:
    """Return how many responses of the last stage hf gives again, by the same weights in batches of another size.

    What differs is the noise floor of a difference between engines: rounding, by what else is in a batch.
    """
    stage = done.stage(last_of(done))
    evaluator = Evaluator(load_tasks(SETS, make_spec(RunOptions("tiny", "seqft")).suite.task_folders()), TESTED)
    again = evaluator.evaluate(HFEngine(*load_model(stage.weights, "cuda", torch.bfloat16), batch_size))
    pairs = [pair for name in SETS for pair in zip(stage.responses(name), again[name], strict=True)]
    if any(ours["prompt"] != theirs["prompt"] for ours, theirs in pairs):
        raise PartFailed("the requests that were asked again are not those of the run", {})
    return f"{sum(ours['response'] == theirs['response'] for ours, theirs in pairs)} of {len(pairs)}"


def since(started: float) -> float:
    """Return seconds."""
    return round(time.perf_counter() - started, 1)


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
            found["claims"].append(claim(what, fitting.per_sample(check.blocks, tokens, recomputing), measured, "GB"))
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
    rows = list(edit_memory.beside_model(fitting.EDITS, shape["hidden"], shape["intermediate"], 2, 4, 32))
    found: dict[str, Any] = {"methods": rows}
    if check.wide:
        found["claims"] = [
            claim(f"an edit of {name} beside the model", fitting.EDITS[name], row["GB beside the model"], "GB")
            for name, row in ((row["method"], row) for row in rows)
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
    """Take every method through two stages with the embedded model."""
    small = [f"tasks=[{','.join(TASKS)}]", "training.epochs=1", *limits(check.rows or 32)]
    found: dict[str, Any] = {}
    failed = []
    for name in check.methods or sorted(methods.names()):
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
    every = 2 if check.rows else 20

    class Stop(BaseException):
        pass

    class StopAt(Observer):
        def observe(self, event: Event) -> None:
            if isinstance(event, TrainStep) and (event.stage, event.done) == (2, every + every // 2):
                raise Stop

    fewer = limits(check.rows) if check.rows else []
    short = [f"tasks=[{','.join(TASKS)}]", f"training.save_steps={every}", *(fewer or ["evaluation.limit=50"])]
    started = time.perf_counter()
    main = run(settings=[*NATIVE, *fewer], out=check.work / "main", device="cuda")
    seconds = time.perf_counter() - started
    once, again, broken = (check.work / name for name in ("once", "again", "broken"))
    for folder in (once, again):
        run(settings=[*NATIVE, *short], out=folder, device="cuda")
    try:
        run(settings=[*NATIVE, *short], out=broken, device="cuda", observers=[StopAt()])
        raise PartFailed("the run that was to be stopped in its second training was not", {})
    except Stop:
        run(settings=[*NATIVE, *short], out=broken, device="cuda")
    return {
        "seconds of the main job": round(seconds, 1),
        "scores of the last stage": {
            f"{row['metric']} of {row['set']}": row["value"]
            for row in stage_scores(main.stage(last_of(main)), main.manifest, last_of(main))
            if row["kind"] == "task"
        },
        "largest difference of a weight": {
            "made again": difference(once, again, 2),
            "stopped and gone on with": difference(once, broken, 2),
        },
    }


def limits(rows: int) -> list[str]:
    """Return the settings that leave a run of the embedded suite so many training rows a task, and few of each test."""
    return [f"training.limit={rows}", f"evaluation.limit={min(4, max(1, rows // 4))}"]


def difference(first: Path, second: Path, stage: int) -> float:
    """Return the largest difference of two runs' weights."""
    ours, theirs = (load_file(RunFolder(each).stage(stage).weights / "model.safetensors") for each in (first, second))
    return max(float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours)


class PartFailed(Exception):
    """A part that found something wrong, with what it found."""


def median(values: list[float]) -> float:
    """Return the median of step times, the first, which warms up, aside."""
    return round(statistics.median(values[1:] or values), 4)


def emptied() -> None:
    """Give back what is not used, and begin a new peak."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
