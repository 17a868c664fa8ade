"""`theta_0 + lambda tau`, tau merged from tau_s = theta_s^ft - theta_0 of the stages s = 1..t: TIES-Merging.

Trim: the entries of tau_s that are not among its largest become 0. Elect: an entry's sign is that of its sum over s.
Merge: the entry is the mean of those tau_s that have this sign; where the sum is 0, so is the merged entry (the
authors' code takes the sign that most entries have). Yadav et al., "TIES-Merging: Resolving Interference When Merging
Models" (NeurIPS 2023). Only the scored model is merged; t copies of what is trained are kept on disk.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hpa_bench import Method, MethodConfig, StageContext, Tunable, Weights, unrounded
from hpa_bench.baselines.shared.task_vectors import keep, kept, task_vector, trained_weights


class TIESConfig(MethodConfig):
    """What is kept of a task vector, how far the merged one goes, and where each task's training starts."""

    keep: Annotated[float, Tunable(0.05, 0.8, log=True)] = Field(0.2, gt=0, le=1)
    """The share of a task vector's entries, of all layers together, that trimming leaves: the largest (paper: 20%)."""
    scale: Annotated[float, Tunable(0.3, 2)] = Field(1.0, ge=0)
    """lambda (paper: 1.0 where no data are there to choose it)."""
    train_from: Literal["aligned", "previous"] = "aligned"
    """`aligned`: every task is fine-tuned from theta_0, as the paper's are, which every stage hands on again.
    `previous`: from theta_{t-1}^ft, so that tau_t holds what the tasks before it changed as well."""


class TIES(Method):
    """Trim task vectors, let them agree on a sign for each entry, and average those with that sign."""

    name: ClassVar[str] = "ties"
    kind = "weights"
    Config: ClassVar[type[MethodConfig]] = TIESConfig

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Keep theta_0 + the trimmed tau_t; yield theta_0 where the next task starts from there."""

        def pair(name: str) -> tuple[Tensor, Tensor]:
            return unrounded(after, name).to(ctx.device), ctx.start[name].to(ctx.device)

        def trimmed(name: str) -> Tensor:
            tuned, start = pair(name)
            return torch.where(task_vector(tuned, start).abs().float() >= threshold, tuned.to(start.dtype), start)

        threshold = kth_magnitude(
            lambda: (task_vector(*pair(name)) for name in trained_weights(ctx)), share=self.config.keep
        )
        keep(ctx, trimmed)
        if self.config.train_from == "aligned":
            yield from ((name, ctx.start[name]) for name in trained_weights(ctx))

    def evaluated(self, handed_on: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield theta_0 + lambda tau."""
        trimmed = [kept(ctx, stage) for stage in range(1, ctx.stage + 1)]
        for name in trained_weights(ctx) if trimmed else ():
            start = ctx.start[name].to(ctx.device)
            taus = torch.stack([task_vector(weights[name].to(ctx.device), start) for weights in trimmed])
            agree = taus.sign() == taus.sum(0).sign()
            tau = (taus * agree).sum(0) / agree.sum(0).clamp_min(1)
            yield name, (start + self.config.scale * tau).to(start.dtype)


def kth_magnitude(vectors: Callable[[], Iterable[Tensor]], share: float) -> float:
    """Return the magnitude of the k-th largest entry of several tensors together, k = round(share * entries).

    Two passes, each a histogram of half of the bits of |x| in float32, which order as the numbers do.

    Args:
        vectors: returns the tensors, one at a time and the same each time.
        share: 0 < share <= 1; at least one entry is counted.
    """

    def bits(tensor: Tensor) -> Tensor:
        return tensor.abs().float().flatten().view(torch.int32)

    def bin_of(histogram: Tensor, rank: int) -> tuple[int, int]:
        """Return the bin with the entry of this rank from the top, and its rank among the entries of that bin."""
        from_top = histogram.flip(0).cumsum(0)
        place = int((from_top < rank).sum())
        above = int(from_top[place - 1]) if place else 0
        return len(histogram) - 1 - place, rank - above

    highs: Any = sum(torch.bincount(bits(tensor) >> 16, minlength=1 << 15) for tensor in vectors())
    high, rank = bin_of(highs, max(1, round(share * int(highs.sum()))))
    lows = torch.zeros(1 << 16, dtype=torch.int64, device=highs.device)
    for tensor in vectors():
        found = bits(tensor)
        lows += torch.bincount(found[found >> 16 == high] & 0xFFFF, minlength=1 << 16)
    low, _ = bin_of(lows, rank)
    return torch.tensor((high << 16) | low, dtype=torch.int32).view(torch.float32).item()
