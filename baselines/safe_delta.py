"""`W^ = W_ft` where `sum (W_ft - W)^2_jk / d_k^2 <= s/2 mean(1 / d^2) rows / 4096`, cheapest first, else W: Safe Delta.

In a block, with `d_k = U_kk`: an entry of W_ft costs `1 / d_k^2` and loses `(W_ft - W)^2_jk / d_k^2`; cheapest first,
entries are taken while their summed loss is at most `s/2 * mean(cost) * rows / 4096`. What is taken is compensated for
in later columns. Lu et al., "Safe Delta" (ICML 2025); H comes from the safety calibration samples on W. Entries of one
column cost the same; they are ranked by row, where the code leaves the order to its sort.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from hpa_bench import (
    ActivationStream,
    Method,
    MethodConfig,
    Need,
    StageContext,
    Tunable,
    Weights,
    load_moments,
    save_moments,
)
from hpa_bench.baselines.shared.obs import inverse_factors, replace_entries


class SafeDeltaConfig(MethodConfig):
    """Safe Delta's hyper-parameters, with the defaults of the authors' code."""

    s: Annotated[float, Tunable(0.01, 10_000, log=True)] = Field(0.1, ge=0)
    """The safety budget (`scale` of run_safedelta.py: 0.1; its scripts 0.1 and 0.11). It is absolute, of the scale of
    7B models' weights and activations: on a much smaller model it takes next to nothing of an update."""
    calibration_samples: int = Field(128, ge=1)
    """Safety calibration samples that H is of (official: 128), whatever number the suite has for other methods; all
    that the aligned model refuses of a smaller source."""
    reference: Literal["prev", "init"] = "prev"
    """The safe weights. The paper fine-tunes once; in a sequence, `prev` (theta_{t-1}) bounds the change of each stage,
    `init` (theta_0) that of all stages together, and its H is measured once a run."""
    never: float = Field(0.15, ge=0, le=1)
    """Share of a block's entries, those that cost most safety, that are never taken (code alone, not in the paper)."""
    block: int = Field(2048, ge=1)
    """Columns of one block, each with a budget of its own (code alone)."""
    step: int = Field(4, ge=1)
    """Columns replaced at a time (code alone)."""
    damping: float = Field(0.01, ge=0)
    """Share of mean(diag H) added to its diagonal (code: percdamp)."""


class SafeDelta(Method):
    """Take entries of W_ft in the order of their safety cost, as long as the summed loss stays in the budget."""

    name: ClassVar[str] = "safe_delta"
    kind = "weights"
    Config: ClassVar[type[MethodConfig]] = SafeDeltaConfig
    needs: frozenset[Need] = frozenset({"safety_calibration"})

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield every linear layer's edited weight, one decoder block after another."""
        reference = before if self.config.reference == "prev" else ctx.start
        for moments in self._moments(reference, ctx):
            for name, u in inverse_factors(moments, self.config.damping):
                safe, tuned = (weights[f"{name}.weight"].to(ctx.device) for weights in (reference, after))
                yield f"{name}.weight", safe_delta(safe, tuned, u, self.config).to(safe.dtype)

    def _moments(self, reference: Weights, ctx: StageContext) -> Iterator[Mapping[str, Tensor]]:
        """Yield H of every layer, block by block; those of theta_0 from the method's folder once they are there."""
        cache = [ctx.folder / f"safe-delta-{block}.safetensors" for block in range(len(ctx.layers))]
        if self.config.reference == "init" and all(path.exists() for path in cache):
            yield from (load_moments(cache[block], ctx.device) for block, _ in ctx.blocks)
            return
        stream = ActivationStream(
            ctx.model, reference, ctx.safety_calibration(self.config.calibration_samples), ctx.device, ctx.decoder
        )
        for block, _ in ctx.blocks:
            moments = stream.second_moments(block)
            if self.config.reference == "init":
                save_moments(cache[block], moments)
            yield moments


def safe_delta(safe: Tensor, tuned: Tensor, u: Tensor, config: SafeDeltaConfig) -> Tensor:
    """Return the edited weight of one layer.

    Args:
        safe: W `[r, c]`.
        tuned: W_ft `[r, c]`.
        u: what `inverse_factor` makes of H.
        config: hyper-parameters.

    Returns:
        `[r, c]`, float64.
    """
    rows, exact = safe.shape[0], tuned.double()

    def choose(columns: slice, current: Tensor, d: Tensor) -> Tensor:
        cost = d.square().reciprocal()
        loss = (exact[:, columns] - current).square() * cost
        order = cost.argsort(stable=True)
        ranked = loss[:, order].T.flatten()
        taken = ranked.cumsum(0) <= config.s / 2 * cost.mean() * rows / 4096
        taken[len(taken) - int(config.never * len(taken)) :] = False
        chosen = taken.new_zeros(loss.shape)
        chosen[:, order] = taken.view(-1, rows).T
        return chosen

    return replace_entries(safe, tuned, u, choose, config.block, config.step)
