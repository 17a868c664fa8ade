"""`S = w1 z(|W - W_pre|) + w2 z(W^2 / d^2)`: the entries of W with the lowest S go back to W_pre. Model Tailor.

W_pre = theta_{t-1}; z is over the row's entries in the block, `d_k = U_kk`. The entries that stay, the patch, make up
for those that go back. Zhu et al., "Model Tailor" (ICML 2024). H comes from task calibration samples on the fine-tuned
model, whose lower blocks are already edited. All decoder blocks are edited; the code edits the last 12 of 32, the ones
that it tuned.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from hpa_bench import ActivationStream, Method, MethodConfig, Need, StageContext, Tunable, Weights
from hpa_bench.baselines.shared.obs import inverse_factors, replace_entries

SIGN = {"obs": 1, "official": -1, "none": 0}


class ModelTailorConfig(MethodConfig):
    """Model Tailor's hyper-parameters, with the defaults of the authors' code."""

    sparsity: Annotated[float, Tunable(0.3, 0.99)] = Field(0.9, ge=0, lt=1)
    """Share of a block's entries that go back to W_pre (code: 0.9)."""
    change: float = Field(0.8, ge=0)
    """Weight of the change |W - W_pre| in the score (llava/train/sparsegpt.py: 0.8; llava/sparsegpt.py: 0.5)."""
    sensitivity: float = Field(0.2, ge=0)
    """Weight of W^2 / d^2 in the score (likewise 0.2, and 0.5)."""
    compensation: Literal["obs", "official", "none"] = "obs"
    """How the patch makes up for what goes back: `obs` subtracts, as the paper and OBS derive it; `official` adds, as
    the code does, which moves the outputs away from the fine-tuned model's; `none` leaves the patch as it is."""
    block: int = Field(128, ge=1)
    """Columns scored together (code)."""
    damping: float = Field(0.01, ge=0)
    """Share of mean(diag H) added to its diagonal (code: percdamp)."""


class ModelTailor(Method):
    """Reset the entries of W with the lowest score to W_pre = theta_{t-1}, and compensate in the entries that stay."""

    name: ClassVar[str] = "model_tailor"
    kind = "columns"
    Config: ClassVar[type[MethodConfig]] = ModelTailorConfig
    needs: frozenset[Need] = frozenset({"task_calibration"})

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield every linear layer's edited weight, one decoder block after another."""
        edited: dict[str, Tensor] = {}

        def edit(moments: Mapping[str, Tensor]) -> Weights:
            for name, u in inverse_factors(moments, self.config.damping):
                pre, tuned = (weights[f"{name}.weight"].to(ctx.device) for weights in (before, after))
                edited[f"{name}.weight"] = tailor(pre, tuned, u, self.config).to(pre.dtype)
            return edited

        weights = ChainMap(ctx.finished, after)  # type: ignore[arg-type]
        stream = ActivationStream(ctx.model, weights, ctx.task_calibration(), ctx.device, ctx.decoder)
        for block, _ in ctx.blocks:
            stream.second_moments(block, edit)
            yield from edited.items()
            edited.clear()


def tailor(pre: Tensor, tuned: Tensor, u: Tensor, config: ModelTailorConfig) -> Tensor:
    """Return the edited weight of one layer.

    Args:
        pre: W_pre `[r, c]`.
        tuned: W `[r, c]`.
        u: what `inverse_factor` makes of H.
        config: hyper-parameters.

    Returns:
        `[r, c]`, float64.
    """
    change = (tuned.double() - pre.double()).abs()

    def choose(columns: slice, current: Tensor, d: Tensor) -> Tensor:
        score = config.change * z(change[:, columns]) + config.sensitivity * z(current.square() / d.square())
        threshold = score.flatten().sort().values[int(config.sparsity * score.numel())]
        # A row without any change has no z score: NaN is not <=, and the row stays.
        return score <= threshold

    return replace_entries(tuned, pre, u, choose, config.block, sign=SIGN[config.compensation])


def z(values: Tensor) -> Tensor:
    """Return values minus their row's mean, over its standard deviation."""
    return (values - values.mean(1, keepdim=True)) / values.std(1, keepdim=True)
