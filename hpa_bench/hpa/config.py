"""Hyper-parameters of HPA."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hpa_bench import MethodConfig, Tunable


class HPAConfig(MethodConfig):
    """HPA's hyper-parameters, with the defaults of arXiv 2511.20158.

    Fields marked [choice] settle what the paper leaves open.
    """

    p_max: Annotated[float, Tunable(5, 80, log=True)] = Field(default=15.0, ge=0, le=100)
    """Percent of columns kept from W0 in the first decoder block (paper: 15)."""
    p_min: Annotated[float, Tunable(1, 40, log=True)] = Field(default=5.0, ge=0, le=100)
    """Percent that the keep rate falls towards with depth, `p_l = p_max - (l/L)(p_max - p_min)` (paper: 5)."""
    focus_factor: float = Field(default=2.0, gt=0)
    """k / p_l: S and T are the top `focus_factor * p_l` percent of the columns (paper: k = 2 p_l)."""
    alpha_min: float = Field(default=0.4, ge=0, le=1)
    """a0, the weight of the task score where the task score dominates (paper: 0.4)."""
    alpha_max: float = Field(default=0.8, ge=0, le=1)
    """a1, its weight where the safety score dominates (paper: 0.8). [choice] The interpolation between the two is
    `alpha = a0 + (a1 - a0) * (1 + tanh(mean(log(eps_bar / zeta_bar)))) / 2`, over columns where both scores are > 0."""
    damping: float = Field(default=0.01, ge=0)
    """[choice] This fraction of mean(diag H) is added to the diagonal of H before it is inverted."""
    saliency: Literal["divide", "multiply"] = "divide"
    """[choice] How a squared update meets diag(H^-1): `divide`, as Optimal Brain Surgeon derives it, or `multiply`."""
    hessian_model: Literal["own", "before", "after"] = "own"
    """[choice] The weights that the calibration samples run through: `own` is W0 for the safety and W1 for the task
    samples; `before` is W0, `after` is W1, for both."""
    selection: Literal["full", "safety_focused", "balanced", "none"] = "full"
    """Which columns W0 keeps. `full`: the columns of S outside T, then the shared ones by phi. The paper's ablation:
    `safety_focused` (its eps row: the top p_l% of S, ignoring T), `balanced` (its phi row: the shared ones by phi
    alone), `none` (no column)."""
    shared: Literal["overlap", "union"] = "overlap"
    """[choice] The shared columns, those that phi chooses among: `overlap`, in S and in T, or `union`, in S or in T.
    Where they are fewer than p_l%, `balanced` keeps them all and no other; `full` keeps p_l% in any case, since S
    outside T and the overlap are S (with focus_factor >= 1)."""
    orthogonal: bool = True
    """Part 3: take from the update its component along W0 (the paper's ablation switches it off)."""

    @model_validator(mode="after")
    def _rates_fall(self) -> Self:
        if self.p_min > self.p_max:
            raise ValueError(f"p_min ({self.p_min:g}) is above p_max ({self.p_max:g}): the keep rate falls with depth")
        return self
