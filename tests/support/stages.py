"""A stage on a random LLaVA, as a method sees it: real weights, real model inputs, a merged update on every layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from hpa_bench.data.samples import Sample
from hpa_bench.method import Method, StageContext
from hpa_bench.models.adapters import LoRAConfig, attach_lora, lora_factors
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.prompts import training_batch
from hpa_bench.models.weights import Checkpoint, Merged
from hpa_bench.runner.edits import checked
from tests.support.models import IMAGE_SIZE, WORDS, random_llava


def without_calibration(ctx: StageContext) -> StageContext:
    """Return a stage in which a method that asks for calibration samples fails."""

    def asked(*_: Any) -> list[dict[str, Tensor]]:
        raise AssertionError("calibration samples were asked for")

    return replace(ctx, safety_calibration=asked, task_calibration=asked)


def kept_columns(adapted: Tensor, before: Tensor) -> Tensor:
    """Return which columns of a weight are as they were before the stage, bool `[c]`."""
    return (adapted == before).all(0)


def calibration_batches(
    processor: Any, seed: int = 0, samples: int = 6, batch_size: int = 3, padding_side: str = "left"
) -> list[dict[str, Tensor]]:
    """Return model inputs of samples with one random image and 2-9 random words each, as the processor makes them."""
    draw = torch.Generator().manual_seed(seed)
    processor.tokenizer.padding_side = padding_side
    texts, images = [], []
    for _ in range(samples):
        words = torch.randint(len(WORDS), (int(torch.randint(2, 10, (), generator=draw)),), generator=draw)
        texts.append("<image> " + " ".join(WORDS[word] for word in words))
        images.append(torch.randint(256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=torch.uint8, generator=draw).numpy())
    slices = [slice(first, first + batch_size) for first in range(0, samples, batch_size)]
    return [dict(processor(text=texts[s], images=images[s], padding=True, return_tensors="pt")) for s in slices]


def coloured_samples(count: int, task: str = "a") -> list[Sample]:
    """Return samples with images of one colour each and answers of one to three words."""
    answers = ("red", "a green house", "yes", "three dog cat")
    return [
        Sample(
            f"{task}/{index}",
            task,
            "<image>\nwhat colour is this ?",
            answers[index % len(answers)],
            [Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), (40 * (index % 6), 90, 200 - 20 * (index % 7)))],
        )
        for index in range(count)
    ]


def random_stage(
    folder: Path, seed: int = 0, layers: int = 3
) -> tuple[dict[str, Tensor], dict[str, Tensor], StageContext]:
    """Return `(before, after, ctx)` of the first stage of three."""
    model, processor = random_llava(seed, layers=layers)
    decoder = find_decoder(model)
    draw = torch.Generator().manual_seed(seed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = dict(before)
    for name in (f"{layer}.weight" for layer in decoder.linear_layers):
        rows, columns = before[name].shape
        a, b = torch.randn(4, columns, generator=draw), torch.randn(rows, 4, generator=draw)
        after[name] = before[name] + 0.05 * b @ a
    samples = {"a": coloured_samples(8)}
    ctx = StageContext(
        stage=1,
        stages=3,
        tasks=("a",),
        seed=seed,
        device="cpu",
        lora=LoRAConfig(),
        model=model,
        decoder=decoder,
        start=before,
        before=before,
        unaligned=None,
        folder=folder,
        safety_calibration=lambda count=None: calibration_batches(processor, seed=1, samples=4),
        task_calibration=lambda: calibration_batches(processor, seed=2, samples=9),
        samples=lambda task: samples[task],
        safety_data=lambda: coloured_samples(4, task="safety"),
        collate=lambda samples: training_batch(processor, samples),
    )
    return before, after, ctx


def merged_stage(folder: Path, share: float = 0.01) -> tuple[dict[str, Tensor], Merged, StageContext]:
    """Return `(before, after, ctx)` in bfloat16: `after` merges an adapter whose updates have `share` of W0's norm."""
    before, _, ctx = random_stage(folder)
    model, _ = random_llava(0, layers=3)
    wrapped: Any = attach_lora(model, LoRAConfig(rank=4, alpha=4), ctx.linear_layers)
    draw = torch.Generator().manual_seed(1)
    for factors in lora_factors(wrapped):
        factors.b.data.normal_(generator=draw)
        factors.b.data *= share * before[f"{factors.name}.weight"].norm() / factors.update().norm()
    wrapped.save_pretrained(folder / "adapter")
    rounded = {name: tensor.bfloat16() for name, tensor in before.items()}
    return rounded, Merged(rounded, folder / "adapter"), replace(ctx, start=rounded, before=rounded)


def two_stages(method: Method, folder: Path) -> dict[str, Tensor]:
    """Take two stages by a method's hooks, with a step of training in each; return the weights that are scored last.

    Raises:
        UserError: an edit that the harness refuses, or what the method itself says.
    """
    before, after, ctx = random_stage(folder)
    draw = torch.Generator().manual_seed(9)
    unaligned = {name: tensor + 0.01 * torch.randn(tensor.shape, generator=draw) for name, tensor in before.items()}
    ctx, weights = replace(ctx, unaligned=unaligned), after
    save_file(before, folder / "model.safetensors")
    forms = Checkpoint(folder, ctx.model)
    method.start(ctx)
    for stage in (1, 2):
        ctx = replace(ctx, stage=stage, before=before)
        samples = method.training_data(ctx.samples("a"), ctx)
        model: Any = method.wrap(ctx.model, ctx)
        batch = ctx.collate(samples[:2])
        outputs = model(**batch)
        terms = (method.penalty(model, batch, outputs), method.token_penalty(model, batch, outputs))
        loss = sum((term for term in terms if term is not None), outputs.loss)
        if loss.requires_grad:
            loss.backward()
        method.edit_adapter(model, ctx)
        ctx = replace(ctx, model=model.unload())
        edits = checked(method.adapt(before, after, ctx), forms, method.name, "adapt")
        handed_on = {**after, **edits}
        weights = handed_on | checked(method.evaluated(handed_on, ctx), forms, method.name, "evaluated")
        method.load_state_dict(dict(method.state_dict()))
        before = handed_on
    return weights
