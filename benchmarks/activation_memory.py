"""Bytes that training keeps for the backward pass, per token, in a 7B-shaped language model with LoRA.

Run: python benchmarks/activation_memory.py [--tokens 64]

Builds Llama models of LLaVA-1.5-7B's width with one and with two decoder blocks, random weights in bfloat16, and adds
up the tensors that autograd saves in a step under bfloat16 autocast, each storage once and weights aside. What one more
block and one more token add is the figure; autocast's copies of the adapter do not grow with tokens. On a CPU; the
attention kernel of a GPU may keep less.
"""

import argparse
import json

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from hpa_bench.models.adapters import LoRAConfig, attach_lora
from hpa_bench.models.decoder import find_decoder


def kept(blocks: int, rank: int, tokens: int, recomputing: bool) -> int:
    """Return the bytes that a training step of one sequence saves."""
    config = LlamaConfig(
        vocab_size=128, hidden_size=4096, intermediate_size=11008, num_hidden_layers=blocks, num_attention_heads=32
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        torch.nn.init.uniform_(tensor, -0.02, 0.02)
    layers = find_decoder(model).linear_layers
    wrapped = attach_lora(model, LoRAConfig(rank=rank, alpha=2 * rank), layers)
    if recomputing:
        wrapped.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        wrapped.enable_input_require_grads()
    wrapped.train()
    weights = {tensor.untyped_storage().data_ptr() for tensor in wrapped.parameters()}
    seen: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.arange(tokens)[None] % 128
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        wrapped(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=64)
    tokens = parser.parse_args().tokens
    for rank in (16, 128):
        for recomputing in (False, True):
            few, many = (
                kept(2, rank, count, recomputing) - kept(1, rank, count, recomputing) for count in (tokens, 2 * tokens)
            )
            block = (many - few) / tokens
            print(json.dumps({"rank": rank, "recomputing": recomputing, "bytes per token and block": round(block)}))


if __name__ == "__main__":
    main()
