"""Time of one HPA edit over its floor, on a random decoder.

The floor counts what no implementation of HPA avoids, at the rates that this machine reaches in this run: the forward
of the calibration samples, 2 n c^2 FLOPs for each distinct layer input and c^3 for its inverse, at the speed of a
float32 matrix product; two reads and one write of every weight, at the speed of a copy.

python -m benchmarks.hpa_floor --hidden 1024 --mlp 2752 --layers 2 --threads 1

On a CPU all times are processor time, so that what else runs counts little; of several threads it is their sum.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hpa_bench.hpa import HPA
from hpa_bench.machine.numerics import cpu
from hpa_bench.method import StageContext
from hpa_bench.models.adapters import LoRAConfig
from hpa_bench.models.decoder import find_decoder


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Return the shortest of several runs: the processor's time on a CPU, the clock's on a GPU."""
    now = time.perf_counter if device == "cuda" else time.process_time

    def once() -> float:
        begin = now()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return now() - begin

    work()
    return min(once() for _ in range(repeats))


def stage_of(
    model: LlamaForCausalLM,
    before: dict[str, torch.Tensor],
    folder: Path,
    device: str,
    safety: Callable[[], list[dict[str, torch.Tensor]]],
    task: Callable[[], list[dict[str, torch.Tensor]]],
) -> StageContext:
    """Return the only stage of a run that trains nothing: `before` is the aligned model, and the unaligned one."""
    return StageContext(
        stage=1,
        stages=1,
        tasks=("random",),
        seed=0,
        device=device,
        lora=LoRAConfig(),
        model=model,
        decoder=find_decoder(model),
        start=before,
        before=before,
        unaligned=before,
        folder=folder,
        safety_calibration=safety,
        task_calibration=task,
        samples={}.__getitem__,
        safety_data=list,
        collate=lambda samples: {},
    )


@dataclass(frozen=True)
class Size:
    """Of the decoder and of its calibration."""

    hidden: int
    mlp: int
    layers: int
    tokens: int
    """Tokens a sample."""
    safety_samples: int = 8
    task_samples: int = 128
    batch_size: int = 16


def measure(size: Size, device: str, repeats: int) -> dict[str, Any]:
    """Return the seconds of an edit, of its floor and of the floor's parts, and the rates that the floor is counted at.

    Args:
        size: of what is edited.
        device: a torch device.
        repeats: the shortest of so many edits counts.
    """
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64,
    )
    with torch.device(device):
        model = LlamaForCausalLM(config).eval()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        after = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in before.items()}

    def batches(samples: int) -> list[dict[str, torch.Tensor]]:
        sizes = [min(size.batch_size, samples - first) for first in range(0, samples, size.batch_size)]
        return [{"input_ids": torch.randint(1000, (count, size.tokens))} for count in sizes]

    with TemporaryDirectory() as folder:
        safety, task = (partial(batches, samples) for samples in (size.safety_samples, size.task_samples))
        ctx = stage_of(model, before, Path(folder), device, safety, task)
        measured = seconds(lambda: list(HPA().adapt(before, after, ctx)), device, repeats)

    a = torch.randn(2048, 2048, device=device)
    flops_per_second = 2 * 2048**3 / seconds(lambda: a @ a, device, 5)
    bytes_per_second = 2 * a.nbytes / seconds(a.clone, device, 5)

    weights = size.layers * (4 * size.hidden**2 + 3 * size.hidden * size.mlp)
    tokens = size.tokens * (size.safety_samples + size.task_samples)
    # q/k/v, o and gate/up read `hidden` columns, down reads `mlp`; scores and their product with V are attention's.
    squares, cubes = (3 * size.hidden**power + size.mlp**power for power in (2, 3))
    forward = 2 * tokens * weights + size.layers * 4 * tokens * size.tokens * size.hidden
    flops = {"forward": forward, "moments": size.layers * 2 * tokens * squares, "inverses": size.layers * 2 * cubes}
    parts = {name: count / flops_per_second for name, count in flops.items()}
    parts["weights"] = 3 * 4 * weights / bytes_per_second
    floor = sum(parts.values())
    return {
        "weights": weights,
        "tokens": tokens,
        "GFLOP/s": flops_per_second / 1e9,
        "GB/s": bytes_per_second / 1e9,
        "parts": parts,
        "seconds": measured,
        "floor": floor,
        "ratio": measured / floor,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--mlp", type=int, default=704)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64, help="tokens a sample")
    parser.add_argument("--safety-samples", type=int, default=8)
    parser.add_argument("--task-samples", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of a CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = vars(parser.parse_args())
    device, repeats = args.pop("device"), args.pop("repeats")
    torch.set_num_threads(args.pop("threads"))
    found = measure(Size(**args), device, repeats)

    where = torch.cuda.get_device_name() if device == "cuda" else f"{cpu()[0]}, {torch.get_num_threads()} thread(s)"
    print(f"{where}; {found['weights'] / 1e6:.1f} M weights, {found['tokens']} tokens")
    print(f"rates: {found['GFLOP/s']:.0f} GFLOP/s, {found['GB/s']:.1f} GB/s")
    print("floor: " + ", ".join(f"{name} {part:.3f} s" for name, part in found["parts"].items()))
    print(f"measured {found['seconds']:.3f} s, floor {found['floor']:.3f} s, ratio {found['ratio']:.2f}")


if __name__ == "__main__":
    main()
