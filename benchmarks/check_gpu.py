"""Whether this GPU does what the documentation says of memory, time and equality, in one JSON.

python -m benchmarks.check_gpu [--shape 7b] [--blocks N] [--parts run,edit] [--minutes 10] [--json check-gpu.json]
                               [--work FOLDER] [--rows N] [--methods hpa,resta]

Trains, edits and generates with a LLaVA of 7B's shape and random weights, in bfloat16, so that nothing is downloaded:
memory and time of single parts; a run of two stages of `hpa` as suite `cvit` trains (rank 128, 16 samples, recomputed
activations), by hf and, where it is installed, by vLLM; vLLM by itself beside this project's engine; and with the
embedded model the main job and every method. A card or a disk that cannot hold 32 blocks gets fewer, or shape `few`;
`--shape` and `--blocks` overrule that.

A part that is not expected to end within `--minutes` is left out, and the JSON has the command that makes it. A part
that fails is told, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.beside_vllm import beside_vllm
from benchmarks.fitting import SMALL, WIDE, Minutes, Size, expected_seconds, largest
from benchmarks.gpu_parts import (
    Check,
    edit_bytes,
    edit_floor,
    embedded_suite,
    emptied,
    every_method,
    generation,
    training_memory,
    whole_run,
)
from benchmarks.shapes import SHAPES
from hpa_bench.errors import UserError
from hpa_bench.runner.environment import environment

PARTS: dict[str, Callable[[Check], dict[str, Any]]] = {
    "edit": edit_floor,
    "edit_memory": edit_bytes,
    "training_memory": training_memory,
    "generation": generation,
    "run": whole_run,
    "vllm": beside_vllm,
    "embedded": embedded_suite,
    "methods": every_method,
}
"""In the order in which they are made."""


def made(part: str, check: Check) -> dict[str, Any]:
    """Return a part's figures, or why they are missing, with its seconds."""
    started = time.perf_counter()
    try:
        found = PARTS[part](check)
    except Exception as error:  # The other parts are still to be tried.
        traceback.print_exc()
        found = {"missing": str(error.args[0] if error.args else error), "found": error.args[1:]}
    found["seconds of this part"] = round(time.perf_counter() - started, 1)
    emptied()
    return found


def left_out(part: str, minutes: Minutes, options: argparse.Namespace) -> dict[str, Any]:
    """Return why a part is not begun, and the command that makes it; nothing if it is to be made."""
    has_vllm = find_spec("vllm") is not None
    if part == "vllm" and not has_vllm:
        why, install = "vLLM is not installed here", "pip install 'hpa-bench[vllm]' && "
    else:
        why, install = minutes.too_long(part, has_vllm), ""
    if not why:
        return {}
    needed = max(options.minutes, ceil(1.5 * expected_seconds(part, has_vllm) / 60))
    given = ("shape", "blocks", "work", "rows", "methods")
    same = [f"--{name}={value}" for name in given if (value := getattr(options, name))]
    file = options.json.with_name(f"{options.json.stem}-{part}.json")
    command = ["python", "-m", "benchmarks.check_gpu", *same, f"--parts={part}", f"--minutes={needed:g}"]
    return {"left out": why, "command": install + shlex.join([*command, f"--json={file}"])}


def size_of(options: argparse.Namespace, parts: Sequence[str], work: Path) -> Size:
    """Return the size that was asked for, or the largest that fits the card and the disk."""
    if options.shape or options.blocks:
        shape = options.shape or WIDE
        return Size(shape, options.blocks or SHAPES[shape]["layers"], "as --shape and --blocks say")
    return largest(torch.cuda.mem_get_info()[0] / 1e9, shutil.disk_usage(work).free / 1e9, parts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[WIDE, SMALL, "100m"], help="by default 7b, or few on a small card")
    parser.add_argument("--blocks", type=int, help="of the decoder; by default as many as fit, or those of --shape")
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas")
    parser.add_argument("--minutes", type=float, default=10, help="of all parts together (default 10)")
    parser.add_argument("--json", type=Path, default=Path("check-gpu.json"))
    parser.add_argument("--work", type=Path, help="a folder for models and runs; by default a temporary one")
    parser.add_argument("--rows", type=int, help="training rows a task of the embedded suite, for a quick look")
    parser.add_argument("--methods", default="", help="of the part of this name, separated by commas; by default all")
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise UserError(f"--parts: there is no {unknown[0]!r}; there are {', '.join(PARTS)}.")
    if not torch.cuda.is_available():
        raise UserError(
            f"torch {torch.__version__} finds no GPU here: check the driver (nvidia-smi) and torch's build."
        )
    logging.basicConfig(level=logging.WARNING)
    with TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        size = size_of(options, parts, work)
        print(f"shape {size.shape}, {size.blocks} blocks: {size.why}", flush=True)
        found: dict[str, Any] = {"machine": environment("cuda").model_dump(mode="json"), **size._asdict()}
        check = Check(size.shape, size.blocks, work, options.rows, tuple(filter(None, options.methods.split(","))))
        minutes = Minutes(60 * options.minutes, pace=check.wide)
        for part in parts:
            found[part] = left_out(part, minutes, options)
            if not found[part]:
                found[part] = made(part, check)
                minutes.spend(part, found[part]["seconds of this part"], find_spec("vllm") is not None)
            print(json.dumps({part: found[part]}, indent=1), flush=True)
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any("missing" in found[part] for part in parts))


if __name__ == "__main__":
    raise SystemExit(main())
