"""Bytes that a method's edit holds on a GPU beside the model, in a language model of LLaVA-1.5-7B's width.

python -m benchmarks.edit_memory [--methods hpa,ties] [--blocks 2] [--samples 4] [--tokens 32]

Runs the real `adapt` (and `evaluated`) on random bfloat16 weights on the simulated GPU of the tests, which counts every
storage; allocator and kernels may want more. It is a first stage: later, `ties` and `magmax` hold more, since they
compare with earlier tasks. What an edit holds does not grow with the number of blocks, but for the calibration samples
between them: 2 x hidden bytes a token, which are given apart. On two cores: ten minutes.
"""

import argparse
import gc
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.hpa_floor import stage_of
from hpa_bench.method import methods
from hpa_bench.models.adapters import LoRAConfig, attach_lora, lora_factors
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.weights import Merged
from tests.support.simulated_gpu import simulated_gpu

METHODS = "hpa,magnitude_columns,wise_ft,ties,magmax,resta"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS, help="separated by commas")
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--mlp", type=int, default=11008)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--samples", type=int, default=4, help="calibration samples, of safety and of the task each")
    parser.add_argument("--tokens", type=int, default=32, help="tokens a sample")
    args = parser.parse_args()

    with simulated_gpu():
        names = args.methods.split(",")
        for found in beside_model(names, args.hidden, args.mlp, args.blocks, args.samples, args.tokens):
            print(json.dumps(found), flush=True)


def beside_model(
    names: Iterable[str], hidden: int, mlp: int, blocks: int, samples: int, tokens: int
) -> Iterator[dict[str, Any]]:
    """Yield what each method's edit holds on the GPU that torch sees, a simulated one or not, beside the model.

    Args:
        names: of methods.
        hidden: width of the decoder, a multiple of 128.
        mlp: width inside a block.
        blocks: how many.
        samples: calibration samples, of safety and of the task each.
        tokens: a sample.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=blocks,
        num_attention_heads=hidden // 128,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device="cpu").bfloat16().eval()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    for tensor in model.parameters():
        torch.nn.init.normal_(tensor, 0, 0.02)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers = find_decoder(model).layers

    def batches() -> list[dict[str, Tensor]]:
        return [{"input_ids": torch.randint(1000, (samples, tokens)).to("cuda")}]

    for name in names:
        started = time.perf_counter()
        with TemporaryDirectory() as folder:
            model.to("cuda")
            ctx = stage_of(model, before, Path(folder), "cuda", batches, batches)
            after = Merged(before, adapter(model, layers, Path(folder) / "adapter"), "cuda")
            torch.cuda.reset_peak_memory_stats()
            resting = torch.cuda.memory_allocated()
            method = methods.get(name)()
            taken_off(method.adapt(before, after, ctx))
            taken_off(method.evaluated(after, replace(ctx, before=after)))
            peak = torch.cuda.max_memory_allocated() - resting
            model.to("cpu")
            gc.collect()
        yield {
            "method": name,
            "GB beside the model": round(peak / 1e9, 2),
            "of them samples between blocks": round(2 * 2 * samples * tokens * hidden / 1e9, 3),
            "seconds": round(time.perf_counter() - started, 1),
        }


def adapter(model: LlamaForCausalLM, layers: Sequence[Sequence[str]], folder: Path) -> Path:
    """Write an adapter of rank 8 with a small update of every layer."""
    wrapped = attach_lora(model, LoRAConfig(rank=8, alpha=8), [name for block in layers for name in block])
    for factors in lora_factors(wrapped):
        factors.b.data.normal_(0, 1e-4)
    wrapped.save_pretrained(folder)
    wrapped.unload()
    return folder


def taken_off(edits: Iterable[tuple[str, Tensor]]) -> None:
    """Take edited weights off the GPU one by one, as a run does."""
    for _, tensor in edits:
        tensor.cpu()


if __name__ == "__main__":
    main()
