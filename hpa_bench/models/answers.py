"""A training step whose head computes the logits that predict answers, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hpa_bench.errors import UserError
from hpa_bench.models.prompts import IGNORED


class AnswerRows:
    """Where a batch's answers are predicted, and the batch as one row of these places."""

    def __init__(self, labels: Tensor) -> None:
        """Find the places.

        Args:
            labels: [batch, length], -100 outside the answers.
        """
        following = pad(labels, (0, 1), value=IGNORED)[:, 1:]
        self._shape = labels.shape
        self._places = (following != IGNORED).flatten().nonzero().flatten()
        self.labels = pad(following.flatten()[self._places], (1, 0), value=IGNORED)[None]
        """[1, n + 1] for n answer tokens, from which a causal model's loss leaves the first out."""

    @contextmanager
    def chosen(self, model: nn.Module) -> Iterator[None]:
        """Let a model compute logits [1, n + 1, V] for a while: those of the n answer tokens, and one that nothing
        follows.

        Raises:
            UserError: the model has no head to be found.
        """
        find: Any = getattr(model, "get_output_embeddings", lambda: None)
        if (head := find()) is None:
            raise UserError(
                f"training.answer_logits: {type(model).__name__}, which the method trains, has no"
                " get_output_embeddings(); let it pass that of the model on, or set training.answer_logits=false."
            )
        # A first place at the end, where the loss expects what predicts beyond the row.
        rows = torch.cat([self._places, self._places.new_zeros(1)])
        hook = head.register_forward_pre_hook(lambda module, args: (args[0].flatten(0, 1)[rows][None],))
        try:
            yield
        finally:
            hook.remove()

    def spread(self, outputs: Any) -> Any:
        """Return a model's outputs with logits [batch, length, V] again, 0 where no answer is predicted."""
        logits = outputs["logits"]
        whole = logits.new_zeros(self._shape.numel(), logits.shape[-1]).index_copy(0, self._places, logits[0, :-1])
        outputs["logits"] = whole.view(*self._shape, -1)
        return outputs
