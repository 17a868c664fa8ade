"""Whether the time that `plan --probe` tells is right: python benchmarks/plan.py [--methods seqft,hpa] [--shape 100m]

Probes each method on the embedded suite, then makes its run with nothing to share, and prints the time of that command
over what was told: 0.8 to 1.2, on a machine that does nothing else. With `--shape` the model is one of random weights,
and `--set`, as for a run, makes the whole affordable: --set training.limit=192 --set evaluation.limit=20.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.shapes import SHAPES, random_llava
from hpa_bench.runner.price import Prices
from hpa_bench.runner.probe import measure
from hpa_bench.spec import RunOptions, make_spec


def told(method: str, settings: Sequence[str], folder: Path) -> float:
    """The seconds that a probe tells."""
    spec = make_spec(RunOptions("tiny", method, settings=settings))
    return measure(spec, folder, "cpu").seconds(Prices("cpu").work(spec))


def taken(method: str, settings: Sequence[str], folder: Path) -> float:
    """The seconds of the run's command."""
    command = [sys.executable, "-m", "hpa_bench", "run", "--method", method, "--device", "cpu", "--no-report"]
    command += [part for setting in settings for part in ("--set", setting)]
    began = time.perf_counter()
    subprocess.run([*command, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="seqft,hpa,ewc,zero_shot")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder, settings = Path(name), given.settings
        if given.shape:
            count = random_llava(given.shape, folder / "model", "cpu", torch.float32)
            print(f"a model of {count / 1e6:.0f} M parameters")
            # The suite's own unaligned model has another shape.
            settings = [*settings, *(f"{key}={folder / 'model'}" for key in ("model", "unaligned_model"))]
        for method in given.methods.split(","):
            expected = told(method, settings, folder / f"probe-{method}")
            seconds = taken(method, settings, folder / method)
            print(f"{method}: told {expected:.1f} s, taken {seconds:.1f} s: {seconds / expected:.2f}", flush=True)


if __name__ == "__main__":
    main()
