"""`CE + lambda/2 sum_jk F_jk Delta_jk^2`, Delta = (alpha/r) B A, the step away from theta_{t-1}: online EWC.

Kirkpatrick et al. (PNAS 2017), online as Schwarz et al. (ICML 2018): F <- gamma F + F_t, one anchor, the model before
the task. F is the empirical Fisher information: the mean over samples of the squared gradient of one sample's
log-likelihood of its answer. (The paper has the factor 1/2; mammoth and avalanche leave it out.) Merged adapters start
anew, so a penalty on A and B themselves, as in other code, would anchor them to a past they no longer share; the
penalty is on the merged update.

F's scale is that of the squared loss of whole answers and falls with the number of weights, so that papers' strengths
span many orders of magnitude. Here each task's F is divided by its mean over all entries, unless told otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hpa_bench import (
    Batch,
    Factors,
    Method,
    MethodConfig,
    Need,
    StageContext,
    Tunable,
    Weights,
    load_into,
    lora_factors,
)
from hpa_bench.baselines.shared.fisher import fisher_information, mean_entry

BATCH = {"cpu": 16, "cuda": 4}
"""Samples of one backward pass, by kind of device; gradients are still taken sample by sample. On a GPU, the inputs of
a 7B model's layers and a dense F are there beside its weights."""


class EWCConfig(MethodConfig):
    """Hyper-parameters of EWC."""

    strength: Annotated[float, Tunable(0.001, 10, log=True)] = Field(0.1, ge=0)
    """lambda, of the scale of `l2`'s, and its default. Papers search 1e2 to 1e6, for an F that is not normalised."""
    normalise: bool = True
    """Divide each task's F by its mean over all entries of all layers: whatever the model and the loss, its entries
    then add up to those of L2, and differ from them in where they are large. False: F as in the papers."""
    gamma: float = Field(1.0, ge=0, le=1)
    """How much of the earlier tasks' F stays when a task's is added (mammoth's example: 1; 0.9 is common)."""
    fisher: Literal["dense", "factored"] = "dense"
    """`dense`: one entry a weight. `factored`: E[g_o^2] E[x_i^2], o + i numbers a layer (diagonal K-FAC)."""
    fisher_samples: int = Field(512, ge=1)
    """Training samples of a task that F is the mean over; all of a smaller task."""
    anchor_safety: bool = False
    """Begin with F of the safety calibration samples on the aligned model, so that its refusals are held from the
    first task on ("Unforgotten Safety", arXiv 2512.10150)."""


class EWC(Method):
    """Hold weights that earlier tasks need, by their Fisher information, near where they were before the task."""

    name: ClassVar[str] = "ewc"
    kind = "loss"
    Config: ClassVar[type[MethodConfig]] = EWCConfig

    def __init__(self, config: EWCConfig | None = None) -> None:
        super().__init__(config)
        self.fisher: dict[str, Tensor] = {}
        """By layer name and factor: `<layer>` `[o, i]` where dense, `<layer>/out` `[o]` and `<layer>/in` `[i]` else."""

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Nothing, or safety calibration samples where F begins with theirs."""
        return frozenset({"safety_calibration"} if self.config.anchor_safety else ())

    def start(self, ctx: StageContext) -> None:
        """Take F of the safety calibration samples, where asked for."""
        if self.config.anchor_safety and self.config.strength:
            self._accumulate(ctx.safety_calibration(), ctx.start, ctx)

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return the penalty; None while there is no F."""
        if self.config.strength == 0 or not self.fisher:
            return None
        # The dense updates of all layers at once are as large as the model in float32, twice: each layer's is computed
        # again when its gradient is due.
        return (
            self.config.strength
            / 2
            * sum(
                checkpoint(self._weighted, layer, use_reentrant=False, preserve_rng_state=False)
                for layer in lora_factors(model)
            )
        )

    def _weighted(self, layer: Factors) -> Tensor:
        """Return `sum_jk F_jk Delta_jk^2` of one layer."""
        squared = layer.update().square()
        if self.config.fisher == "dense":
            return (self._here(layer.name, squared) * squared).sum()
        return self._here(f"{layer.name}/out", squared) @ squared @ self._here(f"{layer.name}/in", squared)

    def _here(self, key: str, beside: Tensor) -> Tensor:
        """Return a part of F where a tensor is, from the first step on for good: all of it is 26 GB for 7B."""
        self.fisher[key] = self.fisher[key].to(beside)
        return self.fisher[key]

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> tuple[()]:
        """Add this stage's F, at the merged weights, and leave them as they are."""
        if self.config.strength:
            samples = [sample for task in ctx.tasks for sample in ctx.samples(task)]
            size = BATCH[torch.device(ctx.device).type]
            some = torch.randperm(len(samples), generator=ctx.generator(self.name))[: self.config.fisher_samples]
            batches = [ctx.collate([samples[index] for index in part.tolist()]) for part in some.split(size)]
            self._accumulate(batches, after, ctx)
        return ()

    def _accumulate(self, batches: Sequence[Batch], weights: Weights, ctx: StageContext) -> None:
        """Make F `gamma F + F_t`, F_t being that of the batches at the weights, divided by its mean."""
        load_into(ctx.model, weights)
        found = fisher_information(ctx.model.eval(), ctx.linear_layers, batches, self.config.fisher == "dense")
        mean = mean_entry(found) if self.config.normalise else 1.0
        for key, value in found.items():
            if mean > 0 and not key.endswith("/in"):
                value.div_(mean)
            old = self.fisher.get(key)
            self.fisher[key] = (value if old is None else self.config.gamma * old.to(value) + value).cpu()

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return F, float32, as the penalty has it."""
        return self.fisher

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take F back."""
        self.fisher = dict(state)
