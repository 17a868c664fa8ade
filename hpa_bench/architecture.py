"""Find the decoder of any image-text-to-text model: its ordered blocks and their linear layers.

Nothing here knows a model by name: the decoder is the module that owns the input embeddings of the text, its blocks are
the longest `ModuleList` directly inside it, and the vision tower and the projector are outside by construction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpa_bench.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the `ModuleList` of the language model's decoder blocks, first block first.

    Args:
        model: a Hugging Face model with `get_input_embeddings`.

    Raises:
        UserError: the model has no list of blocks beside its text embeddings.
    """
    from torch import nn

    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    owner = next(
        (name.rpartition(".")[0] for name, module in model.named_modules() if module is embeddings),
        "",
    )
    decoder = model.get_submodule(owner)
    lists = [(name, child) for name, child in decoder.named_children() if isinstance(child, nn.ModuleList)]
    if not lists:
        raise UserError(
            f"No decoder blocks found in {type(model).__name__}: expected a ModuleList beside its text embeddings"
            f" in {owner or 'the model'!r}."
        )
    name, blocks = max(lists, key=lambda item: len(item[1]))
    return f"{owner}.{name}" if owner else name, blocks


def linear_layers(model: nn.Module) -> list[list[str]]:
    """Return the module names of every linear layer of the decoder, one list a block (HPA's l = 0..L-1), in order."""
    from torch import nn

    prefix, blocks = decoder_blocks(model)
    return [
        [f"{prefix}.{index}.{name}" for name, module in block.named_modules() if isinstance(module, nn.Linear)]
        for index, block in enumerate(blocks)
    ]
