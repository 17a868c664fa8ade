"""Seconds of a stage of each method over seqft's, on the tiny suite, and how often it passes samples through the model.

python benchmarks/methods.py [--methods all] [--runs runs] [--seed 0] [--no-passes]

Seconds are those of training and of the edit, by the cost.json of finished runs; what is not in --runs is run, one
process at a time. Passes are counted in stage 2 of a run of its own: samples through the decoder while the method
trains and edits, over the samples that seqft trains on there. One with a gradient costs about three without.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers.models.llama.modeling_llama import LlamaMLP

from hpa_bench import run
from hpa_bench.method import methods
from hpa_bench.results.run_folder import MANIFEST, RunFolder
from hpa_bench.runner.events import Event, Observer, Saved, StageStarted
from hpa_bench.spec import RunOptions, make_spec

COUNTED_STAGE = 2


def seconds(name: str, runs: Path, seed: int) -> tuple[float, float]:
    """Return the mean seconds of training and of the edit over a run's stages, running it where it is not finished."""
    folder = make_spec(RunOptions("tiny", name, seed)).default_folder(runs)
    finished = RunFolder(folder)
    if not (folder / MANIFEST).exists() or len(finished.finished_stages()) <= len(finished.manifest.stages):
        command = [sys.executable, "-m", "hpa_bench", "run", "--method", name, "--seed", str(seed)]
        subprocess.run([*command, "--no-report", "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
    spent = [stage.cost["seconds"] for stage in finished.finished_stages()[1:]]
    train, adapt = (sum(stage.get(step, 0.0) for stage in spent) / len(spent) for step in ("train", "adapt"))
    return train, adapt


class StageWatch(Observer):
    """Knows whether a stage is training or editing: from its beginning until its state is saved."""

    stage = 0
    """The stage that is; 0 where none."""

    def observe(self, event: Event) -> None:
        match event:
            case StageStarted():
                self.stage = event.stage
            case Saved(what="state"):
                self.stage = 0


@contextmanager
def counting(watch: StageWatch) -> Iterator[Counter[str]]:
    """Count calls of a decoder block's MLP, a sample each, in training and edit of one stage."""
    counts: Counter[str] = Counter()

    def count(module: torch.nn.Module, inputs: Any) -> None:
        if isinstance(module, LlamaMLP) and watch.stage == COUNTED_STAGE:
            counts["with gradient" if torch.is_grad_enabled() else "without"] += len(inputs[0])

    hook = register_module_forward_pre_hook(count)
    try:
        yield counts
    finally:
        hook.remove()


def passes(name: str, seed: int, *more: str) -> Counter[str]:
    """Return samples times blocks that passed in stage 2, with and without a gradient; more are settings of the run."""
    tasks = make_spec(RunOptions("tiny", "seqft")).suite.tasks[:COUNTED_STAGE]
    settings = [f"tasks=[{', '.join(tasks)}]", "evaluation.limit=1", *more]
    watch = StageWatch()
    with tempfile.TemporaryDirectory() as folder, counting(watch) as counts:
        run("tiny", name, seed, settings=settings, out=Path(folder) / "run", observers=[watch])
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="all", help="separated by commas, settings after colons: ewc,hpa:p_max=20")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", action=argparse.BooleanOptionalAction, default=True, help="count passes")
    options = parser.parse_args()

    # These two have other stages than seqft.
    every = [name for name in methods.names() if name not in ("joint", "zero_shot")]
    names = every if options.methods == "all" else options.methods.split(",")
    names = ["seqft", *(name for name in names if name != "seqft")]
    plain = sum(seconds("seqft", options.runs, options.seed))
    one_pass = passes("seqft", options.seed)["with gradient"] if options.passes else 0
    print(f"{'over seqft':>10}  {'method':<32} {'train':>6} {'edit':>6}  seconds a stage; extra passes of its samples")
    for name in names:
        train, edit = seconds(name, options.runs, options.seed)
        extra = ""
        if options.passes:
            counts = passes(name, options.seed)
            more, without = counts["with gradient"] / one_pass - 1, counts["without"] / one_pass
            extra = f"{more:+.2f} with a gradient, {without:+.2f} without"
        print(f"{(train + edit) / plain:>10.2f}  {name:<32} {train:>6.2f} {edit:>6.2f}  {extra}", flush=True)


if __name__ == "__main__":
    main()
