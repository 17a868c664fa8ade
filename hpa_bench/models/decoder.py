"""Find the decoder of any image-text-to-text model: its ordered blocks and their linear layers.

Nothing here knows a model by name: the decoder is the module that owns the input embeddings of the text, its blocks are
the longest `ModuleList` directly inside it, and the vision tower and the projector are outside by construction. A suite
may say otherwise (see `set_decoder`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpa_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import nn

_OVERRIDE = "_hpa_bench_decoder"


def set_decoder(model: nn.Module, blocks: str | None = None, layers: str | None = None) -> None:
    """Say where a model's decoder is, for all that asks for it from now on; it is remembered on the model object.

    Args:
        model: a Hugging Face model.
        blocks: the dotted name of the `ModuleList` of decoder blocks; by default it is found.
        layers: a regular expression that the whole name of a linear layer, inside its block, must match
            (`self_attn.q_proj`); by default every linear layer counts.

    Raises:
        UserError: there is no such list, or the expression is not valid or matches nothing in some block; the message
            names what the model has.
    """
    setattr(model, _OVERRIDE, (blocks, layers))
    linear_layers(model)


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the `ModuleList` of the language model's decoder blocks, first block first.

    Args:
        model: a Hugging Face model with `get_input_embeddings`.

    Raises:
        UserError: the model has no list of blocks beside its text embeddings, or not the one that the suite names.
    """
    from torch import nn

    chosen, _ = getattr(model, _OVERRIDE, (None, None))
    lists = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)
    }
    if chosen is not None:
        if chosen not in lists:
            raise unknown("list of decoder blocks", chosen, lists, f"(decoder.blocks, in {type(model).__name__})")
        return chosen, lists[chosen]
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    owner = next((name.rpartition(".")[0] for name, module in model.named_modules() if module is embeddings), "")
    beside = [name for name in lists if name.rpartition(".")[0] == owner]
    if not beside:
        raise UserError(
            f"No decoder blocks found in {type(model).__name__}: expected a ModuleList beside its text embeddings"
            f" in {owner or 'the model'!r}; set decoder.blocks in the suite to one of: {', '.join(lists) or 'none'}."
        )
    name = max(beside, key=lambda name: len(lists[name]))
    return name, lists[name]


def linear_layers(model: nn.Module) -> list[list[str]]:
    """Return the module names of every linear layer of the decoder, one list a block (HPA's l = 0..L-1), in order.

    Raises:
        UserError: a block has none, or none that the suite's `decoder.layers` matches.
    """
    from torch import nn

    prefix, blocks = decoder_blocks(model)
    _, pattern = getattr(model, _OVERRIDE, (None, None))
    try:
        wanted = re.compile(pattern or ".*")
    except re.error as error:
        raise UserError(f"decoder.layers {pattern!r} is not a regular expression: {error}.") from None
    found = []
    for index, block in enumerate(blocks):
        there = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
        matching = [name for name in there if wanted.fullmatch(name)]
        if not matching:
            asked = f" that decoder.layers {pattern!r} matches" if pattern and there else ""
            raise UserError(
                f"Block {index} of {type(model).__name__} ({prefix}.{index}) has no linear layer{asked}: it has"
                f" {', '.join(there) or 'none'}; set decoder.blocks and decoder.layers in the suite."
            )
        found.append([f"{prefix}.{index}.{name}" for name in matching])
    return found
