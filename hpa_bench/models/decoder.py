"""Find the decoder of any image-text-to-text model: its ordered blocks and their linear layers.

Nothing here knows a model by name: the decoder is the module that owns the input embeddings of the text, its blocks are
the longest `ModuleList` directly inside it, and the vision tower and the projector are outside by construction. A suite
may say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from hpa_bench.errors import UserError, unknown


@dataclass(frozen=True)
class Decoder:
    """Where a model's decoder is, by module names; found once for a model, and passed to whoever needs it."""

    prefix: str
    """The `ModuleList` of decoder blocks, such as `model.language_model.layers`."""
    layers: Sequence[Sequence[str]]
    """The linear layers, one list a block (HPA's l = 0..L-1), in the model's order."""

    @property
    def linear_layers(self) -> list[str]:
        """The linear layers of all blocks, in the model's order."""
        return [name for block in self.layers for name in block]


def find_decoder(model: nn.Module, blocks: str | None = None, layers: str | None = None) -> Decoder:
    """Return the decoder of a model.

    Args:
        model: a Hugging Face model with `get_input_embeddings`.
        blocks: the dotted name of the `ModuleList` of decoder blocks; by default it is found.
        layers: a regular expression that the whole name of a linear layer, inside its block, must match
            (`self_attn.q_proj`); by default every linear layer counts.

    Raises:
        UserError: there is no such list, or the expression is not valid or matches nothing in some block; the message
            names what the model has.
    """
    prefix, found = _blocks(model, blocks)
    try:
        wanted = re.compile(layers or ".*")
    except re.error as error:
        raise UserError(f"decoder.layers {layers!r} is not a regular expression: {error}.") from None
    names = []
    for index, block in enumerate(found):
        there = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
        matching = [name for name in there if wanted.fullmatch(name)]
        if not matching:
            asked = f" that decoder.layers {layers!r} matches" if layers and there else ""
            raise UserError(
                f"Block {index} of {type(model).__name__} ({prefix}.{index}) has no linear layer{asked}: it has"
                f" {', '.join(there) or 'none'}; set decoder.blocks and decoder.layers in the suite."
            )
        names.append([f"{prefix}.{index}.{name}" for name in matching])
    return Decoder(prefix, names)


def _blocks(model: nn.Module, chosen: str | None) -> tuple[str, nn.ModuleList]:
    """Return the name and the `ModuleList` of the language model's decoder blocks, first block first."""
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
