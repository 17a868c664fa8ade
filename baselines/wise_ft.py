"""`theta_t = (1 - a) theta_ref + a theta_t^ft`: WiSE-FT (Wortsman et al., CVPR 2022)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from hpa_bench import Method, MethodConfig, StageContext, Tunable, Weights


class WiSEFTConfig(MethodConfig):
    """Hyper-parameters of WiSE-FT."""

    a: Annotated[float, Tunable(0.1, 0.9)] = Field(default=0.5, ge=0, le=1)
    """The share of the fine-tuned weights (the paper's recommendation where there is nothing to tune on: 0.5)."""
    reference: Literal["previous", "aligned"] = "previous"
    """What to interpolate with. The paper fine-tunes once, so sequences are open: theta_{t-1} bounds each step,
    theta_0 pulls every stage back to the aligned model."""


class WiSEFT(Method):
    """Interpolate between the model before and after fine-tuning."""

    name: ClassVar[str] = "wise_ft"
    kind = "weights"
    Config: ClassVar[type[MethodConfig]] = WiSEFTConfig

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield every linear layer's interpolated weight."""
        reference = before if self.config.reference == "previous" else ctx.start
        if self.config.a == 1:
            return
        for key in (f"{layer}.weight" for _, layers in ctx.blocks for layer in layers):
            w0, w1 = (weights[key].to(ctx.device) for weights in (reference, after))
            yield key, w0.double().lerp(w1.double(), self.config.a).to(w0.dtype)
