"""`tau = theta_a - theta_b`: task vectors, taken, thinned, and kept on disk a decoder block at a time."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import torch
from safetensors.torch import save_file
from torch import Tensor

from hpa_bench import Checkpoint, StageContext, UserError, Weights

INDEX = "model.safetensors.index.json"
"""Hugging Face's name for the file that says which tensor is in which file."""


def trained_weights(ctx: StageContext) -> Iterator[str]:
    """Yield the names of the weights that a stage changes: those that `keep` keeps, in its order."""
    return chain.from_iterable(_groups(ctx))


def _groups(ctx: StageContext) -> Iterator[list[str]]:
    """Yield the linear weights of each decoder block, and then those of what is trained beside the adapter, if any."""
    yield from ([f"{layer}.weight" for layer in layers] for layers in ctx.layers)
    if ctx.lora.also:
        yield [name for name in ctx.start if not set(ctx.lora.also).isdisjoint(name.split("."))]


def task_vector(theta_a: Tensor, theta_b: Tensor) -> Tensor:
    """Return theta_a - theta_b of one weight, in float64, where adding theta_b and casting back gives theta_a."""
    return theta_a.double() - theta_b.double()


def alignment_vector(ctx: StageContext, name: str) -> Tensor:
    """Return theta_0 - theta_unaligned of one weight, float64, on the stage's device.

    Raises:
        UserError: the weight has another shape in the unaligned model.
    """
    assert ctx.unaligned is not None, "the method needs an unaligned model"
    aligned, unaligned = ctx.start[name].to(ctx.device), ctx.unaligned[name].to(ctx.device)
    _check_shapes(name, list(aligned.shape), list(unaligned.shape))
    return task_vector(aligned, unaligned)


def check_alignment(ctx: StageContext, names: Iterable[str]) -> None:
    """Check that weights have the same shape in the aligned and in the unaligned model, reading no values.

    Raises:
        UserError: one has another shape in the unaligned model.
    """
    assert ctx.unaligned is not None, "the method needs an unaligned model"
    for name in names:
        _check_shapes(name, _shape(ctx.start, name), _shape(ctx.unaligned, name))


def _check_shapes(name: str, aligned: list[int], unaligned: list[int]) -> None:
    if aligned != unaligned:
        raise UserError(
            f"The weight {name!r} is {unaligned} in the suite's unaligned_model and {aligned} in its model:"
            " name the very model that was aligned."
        )


def _shape(weights: Weights, name: str) -> list[int]:
    return weights.form(name).shape if isinstance(weights, Checkpoint) else list(weights[name].shape)


def dare(vector: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Return DARE_p(vector): each entry is dropped with probability p, and what is left is divided by 1 - p.

    Yu et al., "Language Models are Super Mario" (ICML 2024).

    Args:
        vector: of any shape.
        p: 0 <= p < 1; at 0 the vector is returned as it is.
        generator: on the CPU, so that the draw is the same on every device.
    """
    kept = torch.rand(vector.shape, generator=generator) >= p
    return vector * kept.to(vector.device) / (1 - p)


def keep(ctx: StageContext, weight: Callable[[str], Tensor]) -> None:
    """Write `weight(name)` of every trained weight to this stage's folder; one decoder block is in memory at a time.

    Kept are weights theta and not theta - theta_0, since a weight takes no more than its own dtype to be exact. A
    stage that is repeated writes the same files again; what it reads must be another stage's.
    """
    folder = ctx.folder / f"stage{ctx.stage}"
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for index, names in enumerate(_groups(ctx)):
        tensors = {name: weight(name).contiguous() for name in names}
        file = folder / f"block{index}.safetensors"
        partial = file.with_name(f"{file.name}.partial")
        save_file(tensors, partial)
        partial.replace(file)
        files |= dict.fromkeys(tensors, file.name)
    partial = folder / f"{INDEX}.partial"
    partial.write_text(json.dumps({"weight_map": files}, indent=1), encoding="utf-8")
    partial.replace(folder / INDEX)


def kept(ctx: StageContext, stage: int) -> Weights:
    """Return what `keep` wrote in a stage; a weight is read when it is asked for.

    Raises:
        UserError: it is not there, as where `hpa-bench adapt` is not told where.
    """
    if not (ctx.folder / f"stage{stage}" / INDEX).exists():
        raise UserError(
            f"What the method keeps of stage {stage} is not in {ctx.folder}: hpa-bench adapt takes the folder of it by"
            " --state DIR, the same in every stage."
        )
    return Checkpoint(ctx.folder / f"stage{stage}", ctx.model)
