"""Time of one HPA edit over its floor, on a random decoder.

The floor counts what no implementation of HPA avoids, at the rates that this machine reaches in this run: the forward
of the calibration samples, 2 n c^2 FLOPs for each distinct layer input and c^3 for its inverse, at the speed of a
float32 matrix product; two reads and one write of every weight, at the speed of a copy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hpa_bench.hpa import HPA
from hpa_bench.method import StageContext
from hpa_bench.models.adapters import LoRAConfig
from hpa_bench.models.decoder import find_decoder


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Return the shortest of several runs."""

    def once() -> float:
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

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
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=args.hidden,
        intermediate_size=args.mlp,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64,
    )
    with torch.device(args.device):
        model = LlamaForCausalLM(config).eval()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        after = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in before.items()}

    def batches(samples: int) -> list[dict[str, torch.Tensor]]:
        sizes = [min(args.batch_size, samples - first) for first in range(0, samples, args.batch_size)]
        return [{"input_ids": torch.randint(1000, (size, args.tokens))} for size in sizes]

    with TemporaryDirectory() as folder:
        safety, task = (partial(batches, samples) for samples in (args.safety_samples, args.task_samples))
        ctx = stage_of(model, before, Path(folder), args.device, safety, task)
        measured = seconds(lambda: list(HPA().adapt(before, after, ctx)), args.device, args.repeats)

    a = torch.randn(2048, 2048, device=args.device)
    flops_per_second = 2 * 2048**3 / seconds(lambda: a @ a, args.device, 5)
    bytes_per_second = 2 * a.nbytes / seconds(a.clone, args.device, 5)

    hidden, mlp = args.hidden, args.mlp
    weights = args.layers * (4 * hidden**2 + 3 * hidden * mlp)
    tokens = args.tokens * (args.safety_samples + args.task_samples)
    # q/k/v, o and gate/up read `hidden` columns, down reads `mlp`; scores and their product with V are attention's.
    squares, cubes = (3 * hidden**power + mlp**power for power in (2, 3))
    forward = 2 * tokens * weights + args.layers * 4 * tokens * args.tokens * hidden
    flops = {"forward": forward, "moments": args.layers * 2 * tokens * squares, "inverses": args.layers * 2 * cubes}
    parts = {name: count / flops_per_second for name, count in flops.items()}
    parts["weights"] = 3 * 4 * weights / bytes_per_second
    floor = sum(parts.values())

    print(f"{args.device}, {torch.get_num_threads()} CPU threads; {weights / 1e6:.1f} M weights, {tokens} tokens")
    print(f"rates: {flops_per_second / 1e9:.0f} GFLOP/s, {bytes_per_second / 1e9:.1f} GB/s")
    print("floor: " + ", ".join(f"{name} {part:.3f} s" for name, part in parts.items()))
    print(f"measured {measured:.3f} s, floor {floor:.3f} s, ratio {measured / floor:.2f}")


if __name__ == "__main__":
    main()
