"""`theta_t = theta_t^ft + gamma v`, v = theta_0 - theta_unaligned, on every weight of both that differs: RESTA.

Bhardwaj et al., "Language Models are Homer Simpson! Safety Re-Alignment of Fine-tuned Language Models through Task
Arithmetic" (ACL 2024). The paper unaligns the aligned model by tuning it on harmful data; here the unaligned model is
the suite's, which may be the one before alignment. With DARE on the update, theta_t^ft is replaced by
theta_b + DARE(theta_t^ft - theta_b), where theta_b is theta_0, or, with `apply: each`, theta_{t-1}.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hpa_bench import Method, MethodConfig, Need, StageContext, Tunable, Weights
from hpa_bench.baselines.shared.task_vectors import alignment_vector, check_alignment, dare, task_vector


class RESTAConfig(MethodConfig):
    """How much safety is added, to which model, and what is thinned out first."""

    gamma: Annotated[float, Tunable(0.05, 1.5, log=True)] = Field(0.5, ge=0)
    """The weight of the safety vector. [choice] Public scripts around the authors' merging tool have 1.0, 0.5 and 0.3.
    What is right depends on how far alignment moved the weights: 1.0 is for a short (un)alignment; where v is all of a
    longer alignment, it doubles that."""
    apply: Literal["evaluated", "each"] = "evaluated"
    """`evaluated`: only the scored model has the safety vector, once, and the next stage starts without it. `each`: the
    literal reading, one addition after every task, handed on: stage t has t gamma v."""
    dare_on: Literal["none", "sft", "safety", "both"] = "none"
    """What loses entries by DARE before it is added (the paper's RESTA_d, in which it is the "delta parameters"):
    `sft`, the fine-tuning's update; `safety`, the safety vector, as the third-party SafeTune has it; `both`, as
    mergekit's dare merges do."""
    dare_p: float = Field(0.3, ge=0, lt=1)
    """The probability that DARE drops an entry. [choice] The sources disagree: SafeTune has 0.9."""


class RESTA(Method):
    """Add to the fine-tuned model again what safety alignment once added to the weights."""

    name: ClassVar[str] = "resta"
    kind = "weights"
    Config: ClassVar[type[MethodConfig]] = RESTAConfig
    needs: frozenset[Need] = frozenset({"unaligned_model"})

    def start(self, ctx: StageContext) -> None:
        """Check that the unaligned model is the one that was aligned."""
        check_alignment(ctx, [name for name in ctx.start if name in (ctx.unaligned or ())])

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield the realigned weights where they are handed on."""
        if self.config.apply == "each":
            yield from self._realigned(after, before, ctx)

    def evaluated(self, handed_on: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield the realigned weights where only the scored model has them."""
        if self.config.apply == "evaluated" and ctx.stage:
            yield from self._realigned(handed_on, ctx.start, ctx)

    def _realigned(self, tuned: Weights, base: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:

        gamma, on, p = self.config.gamma, self.config.dare_on, self.config.dare_p
        assert ctx.unaligned is not None, "the method needs an unaligned model"
        for name in tuned:
            weight = tuned[name].to(ctx.device)
            theta = weight.double()
            if on in ("sft", "both"):
                b = base[name].to(ctx.device)
                theta = b + dare(task_vector(weight, b), p, ctx.generator(f"{self.name}/sft/{name}"))
            if name in ctx.unaligned:
                v = alignment_vector(ctx, name)
                if on in ("safety", "both"):
                    v = dare(v, p, ctx.generator(f"{self.name}/safety/{name}"))
                theta = theta + gamma * v
            if not torch.equal(changed := theta.to(weight.dtype), weight):
                yield name, changed
