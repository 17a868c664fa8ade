"""What methods yield in place of weights, checked before anything is written or scored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from hpa_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from hpa_bench.models.weights import Checkpoint


def checked(edits: Iterable[tuple[str, Tensor]], weights: Checkpoint, method: str, hook: str) -> dict[str, Tensor]:
    """Return a method's edits in main memory, each checked and moved there before the next is made.

    A GPU then need not hold the model twice.

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
    found: dict[str, Tensor] = {}
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
        if not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise UserError(
                f"The weight {name!r} {where} has {count} of {tensor.numel()} values that are NaN or infinite."
            )
        found[name] = tensor.detach().cpu()
    return found


def _form(shape: list[int], dtype: torch.dtype) -> str:
    return f"{shape} in {str(dtype).removeprefix('torch.')}"


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
