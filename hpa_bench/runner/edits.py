"""What methods yield in place of weights, checked before anything is written or scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from hpa_bench.errors import UserError, unknown
from hpa_bench.models.weights import not_finite

if TYPE_CHECKING:
    from torch import Tensor

    from hpa_bench.models.weights import Checkpoint, Weights

AHEAD = 2
"""Edited weights that wait to be written while the next is made."""


def checked(edits: Iterable[tuple[str, Tensor]], weights: Checkpoint, method: str, hook: str) -> dict[str, Tensor]:
    """Return a method's edits in main memory, each checked and moved there before the next is made.

    A GPU then need not hold the model twice. Arguments and errors are those of `each_checked`.
    """
    return {name: tensor.cpu() for name, tensor in each_checked(edits, weights, method, hook)}


def each_checked(
    edits: Iterable[tuple[str, Tensor]], weights: Checkpoint, method: str, hook: str
) -> Iterator[tuple[str, Tensor]]:
    """Yield a method's edits, each checked before the next is made.

    Args:
        edits: names and tensors as the hook yields them.
        weights: a checkpoint of the model; an edit has the shape and the dtype of its weight of that name.
        method: the method's name, for messages.
        hook: the hook that yields them, such as "adapt".

    Raises:
        UserError: a name that the model does not have or that came before, another shape or dtype, or a value that is
            not finite; the message names the weight.
    """
    known = set(weights)
    found: set[str] = set()
    for pair in edits:
        try:
            name, tensor = pair
        except (TypeError, ValueError):
            raise UserError(f"{hook} of method {method!r} yields {_kind(pair)}: expected (name, tensor).") from None
        where = f"yielded by {hook} of method {method!r}"
        if name not in known:
            raise unknown("weight", str(name), known, where)
        if name in found:
            raise UserError(f"The weight {name!r} is {where} twice: expected each at most once.")
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"The weight {name!r} {where} is {_kind(tensor)}: expected a tensor.")
        if (given := (list(tensor.shape), tensor.dtype)) != (expected := weights.form(name)):
            raise UserError(
                f"The weight {name!r} {where} is {_form(*given)}: expected {_form(*expected)}, as in the checkpoint."
            )
        if count := not_finite(tensor):
            raise UserError(
                f"The weight {name!r} {where} has {count} of {tensor.numel()} values that are NaN or infinite."
            )
        found.add(name)
        yield name, tensor.detach()


def write_edits(write: Callable[[str, Tensor], None], edits: Iterable[tuple[str, Tensor]]) -> set[str]:
    """Write weights, each while the next is made, and return their names; a few are in main memory at a time.

    Args:
        write: such as `Writer.write`; called in the order of the edits by a thread of its own, and not after it has
            raised, which is raised here.
        edits: names and tensors.
    """
    written: set[str] = set()
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, "write") as thread:
        try:
            for name, tensor in edits:
                # What has not been moved off a GPU by now would be moved after the method has gone on.
                pending.append(thread.submit(write, name, tensor.detach().cpu()))
                written.add(name)
                while len(pending) > AHEAD:
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:
            for each in pending:
                each.cancel()
    return written


def unedited(weights: Weights, like: Checkpoint, edited: Container[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights that a method left alone, in the dtypes of the checkpoint whose layout is followed."""
    return ((name, weights[name].to(like.form(name).dtype)) for name in like if name not in edited)


def _form(shape: list[int], dtype: torch.dtype) -> str:
    return f"{shape} in {str(dtype).removeprefix('torch.')}"


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
