"""`W^ = M * W0 + (1 - M) * W~`, block by block, M p_l% of a layer's columns: HPA (Wang et al., arXiv 2511.20158).

On one layer that is `adapt_layer`; on a model, as a method of the harness, `HPA`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar

from torch import Tensor

from hpa_bench import ActivationStream, Method, MethodConfig, Need, StageContext, UserError, Weights, unrounded
from hpa_bench.hpa.adjustment import adjust
from hpa_bench.hpa.config import HPAConfig
from hpa_bench.hpa.inverse import inverse_diagonal
from hpa_bench.hpa.partition import column_count, column_scores, inverse_diagonals, mean_square, update
from hpa_bench.hpa.selection import keep_percent_at, select_columns

Diagonals = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layer:
    """One linear layer that is being edited."""

    name: str
    before: Tensor
    """W0 `[r, c]`."""
    after: Tensor
    """W1 `[r, c]`, in float32 where W0 has 16 bits."""
    keep_percent: float
    """p_l."""
    safety: Tensor | None
    """diag(H_s^-1) `[c]`; None for a method that needs no calibration."""
    task: Tensor | None
    """diag(H_t^-1) `[c]`; None for a method that needs no calibration."""

    @property
    def update(self) -> Tensor:
        """D = W1 - W0 `[r, c]` in float32 or better."""
        return update(self.before, self.after)

    @property
    def count(self) -> int:
        """How many columns p_l percent are."""
        return column_count(self.keep_percent, self.before.shape[1])

    def select(self, config: HPAConfig) -> Tensor:
        """Return the columns that HPA keeps from W0 (parts 1 and 2), bool `[c]`."""
        assert self.safety is not None and self.task is not None, "HPA's own selection needs both calibration sets"
        changes = mean_square(self.before, self.after)
        eps_bar, zeta_bar = (column_scores(changes, each, config.saliency) for each in (self.safety, self.task))
        return select_columns(eps_bar, zeta_bar, self.keep_percent, config)


def adapt_layer(
    before: Tensor,
    after: Tensor,
    h_safety: Tensor,
    h_task: Tensor,
    keep_percent: float = 10.0,
    config: HPAConfig = HPAConfig(),  # noqa: B008 (frozen)
) -> tuple[Tensor, Tensor]:
    """Adapt one linear layer.

    Args:
        before: W0 `[r, c]`, the weight before the task.
        after: W1 `[r, c]`, the weight after it.
        h_safety: H_s `[c, c]` = 2 X^T X / n over the safety calibration tokens, undamped.
        h_task: H_t `[c, c]`, likewise over the task calibration tokens.
        keep_percent: p_l, percent of the columns kept from W0.
        config: HPA's hyper-parameters; `keep_percent` stands in for its `p_max` and `p_min`.

    Returns:
        The adapted weight W^ `[r, c]` in the dtype of `before`, computed in float32 or better, and the mask of the kept
        columns, bool `[c]`.

    Raises:
        UserError: shapes do not fit, a value is not finite, or an H is not positive definite.
    """
    safety, task = (inverse_diagonal(h, config.damping) for h in (h_safety, h_task))
    kept = Layer("", before, after, keep_percent, safety, task).select(config)
    return adjust(before, after, kept, config.orthogonal), kept


class HPA(Method):
    """Harmonious Parameter Adaptation (Wang et al., arXiv 2511.20158).

    A method that keeps other columns overrides `choose_columns`; one that edits a layer in another way, `edit`.
    """

    name: ClassVar[str] = "hpa"
    kind = "columns"
    Config: ClassVar[type[MethodConfig]] = HPAConfig
    needs: frozenset[Need] = frozenset({"safety_calibration", "task_calibration"})
    keeps_columns: ClassVar[bool] = True

    def choose_columns(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return the columns of a layer that are kept from W0, bool `[c]`."""
        return layer.select(self.config)

    def edit(self, layer: Layer, ctx: StageContext) -> Tensor:
        """Return what a layer's weight becomes, `[r, c]` in the dtype of W0."""
        return adjust(layer.before, layer.after, self.choose_columns(layer, ctx), self.config.orthogonal)

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield every linear layer's edited weight, one decoder block after another.

        Raises:
            UserError: names the layer that cannot be edited.
        """
        diagonals = self._diagonals(before, after, ctx)
        for (index, names), found in zip(ctx.blocks, diagonals, strict=True):
            keep_percent = keep_percent_at(index, len(ctx.layers), self.config.p_max, self.config.p_min)
            # A frame of its own: what it names of its last layer is gone while the next block is inverted.
            yield from self._adapt_block(names, keep_percent, found, (before, after), ctx)

    def _adapt_block(
        self,
        names: Sequence[str],
        keep_percent: float,
        diagonals: tuple[Diagonals, Diagonals],
        weights: tuple[Weights, Weights],
        ctx: StageContext,
    ) -> Iterator[tuple[str, Tensor]]:
        (safety, task), (before, after) = diagonals, weights
        for name in names:
            key = f"{name}.weight"
            w0, w1 = before[key].to(ctx.device), unrounded(after, key).to(ctx.device)
            layer = Layer(name, w0, w1, keep_percent, safety.get(name), task.get(name))
            try:
                edited = self.edit(layer, ctx)
            except UserError as error:
                raise UserError(f"Layer {name!r}: {error}") from None
            yield key, edited

    def _diagonals(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[Diagonals, Diagonals]]:
        """Yield diag(H_s^-1) and diag(H_t^-1) of every layer, block by block; no entries where nothing is needed."""
        if not self.needs or not ctx.blocks:
            yield from repeat(({}, {}), len(ctx.blocks))
            return
        own = self.config.hessian_model == "own"
        safety_weights = before if own or self.config.hessian_model == "before" else after
        task_weights = after if own or self.config.hessian_model == "after" else before
        safety = ActivationStream(ctx.model, safety_weights, ctx.safety_calibration(), ctx.device, ctx.decoder)
        task = ActivationStream(ctx.model, task_weights, ctx.task_calibration(), ctx.device, ctx.decoder)
        for block, _ in ctx.blocks:
            yield (
                inverse_diagonals(safety.second_moments(block), self.config.damping),
                inverse_diagonals(task.second_moments(block), self.config.damping),
            )
