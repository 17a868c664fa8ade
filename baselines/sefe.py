"""`CE + lambda mean_layers mean_positions |B A|` at the positions that earlier tasks marked: SEFE's RegLoRA.

Chen et al., "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction Tuning" (ICML
2025), its RegLoRA half; of its data half, ASD, there is `asd_lite` alone. A position that two tasks marked counts
twice, as in the code, which concatenates its lists; the paper's mask has it once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from hpa_bench import Batch, Method, MethodConfig, Sample, StageContext, Tunable, lora_factors


class SEFEConfig(MethodConfig):
    """Hyper-parameters of RegLoRA."""

    strength: Annotated[float, Tunable(25, 250_000, log=True)] = Field(2500.0, ge=0)
    """lambda (paper and code: 2500). Its mean is over layers and positions, of B A without the scale alpha / r: at
    another alpha / r the same lambda holds the merged update otherwise."""
    share: float = Field(0.02, gt=0, le=1)
    """Of each matrix's entries that a task marks, at least one: the largest of |B A| (paper and code: 2%)."""
    asd_lite: float = Field(0.0, ge=0, le=1)
    """A deviation, off by default: the share of samples that become yes/no questions about the right answer or another
    of the task's, by rule. SEFE's ASD has an external model rewrite them (20%) into four answer styles."""


class SEFE(Method):
    """Keep the next update small where earlier tasks' updates were largest."""

    name: ClassVar[str] = "sefe"
    kind = "loss"
    Config: ClassVar[type[MethodConfig]] = SEFEConfig

    def __init__(self, config: SEFEConfig | None = None) -> None:
        super().__init__(config)
        self.marked: dict[str, Tensor] = {}
        """Flat indices of the marked entries, int32, all earlier tasks' one after another, by layer."""

    def training_data(self, samples: Sequence[Sample], ctx: StageContext) -> Sequence[Sample]:
        """Return the samples, a share of them as yes/no questions."""
        draw, count = ctx.generator(self.name), len(samples)
        changed = list(samples)
        for index in torch.randperm(count, generator=draw)[: round(self.config.asd_lite * count)].tolist():
            own, other = torch.rand((), generator=draw) < 0.5, int(torch.randint(count, (), generator=draw))
            changed[index] = yes_or_no(samples[index], samples[index if own else other].target)
        return changed

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return the penalty; at B = 0 its gradient is 0."""
        if self.config.strength == 0 or not self.marked:
            return None
        layers = list(lora_factors(model))
        # Moved once, not in every step.
        self.marked = {layer.name: self.marked[layer.name].to(layer.a.device) for layer in layers}
        means = [(layer.b @ layer.a).flatten()[self.marked[layer.name]].abs().mean() for layer in layers]
        return self.config.strength / len(layers) * sum(means)

    def edit_adapter(self, model: nn.Module, ctx: StageContext) -> None:
        """Mark the largest entries of this stage's update."""
        for layer in lora_factors(model):
            size = (layer.b.detach().float() @ layer.a.detach().float()).abs().flatten()
            top = size.topk(max(1, int(self.config.share * len(size)))).indices.int()
            earlier = [self.marked[layer.name].to(top.device)] if layer.name in self.marked else []
            self.marked[layer.name] = torch.cat([*earlier, top]).cpu()

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the marked positions."""
        return self.marked

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.marked = dict(state)


def yes_or_no(sample: Sample, candidate: str) -> Sample:
    """Return the sample as a question whether the candidate is its answer."""
    answer = "yes" if candidate == sample.target else "no"
    return replace(sample, prompt=f"{sample.prompt} Is it {candidate}? Answer yes or no.", target=answer)
