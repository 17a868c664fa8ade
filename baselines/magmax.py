"""`theta_0 + lambda tau_max`, entry by entry that of tau_1..tau_t whose magnitude is largest: MagMax.

tau_t = theta_t^ft - theta_0, theta_t^ft fine-tuned from theta_{t-1}^ft; of equals, the later. Marczak et al., "MagMax:
Leveraging Model Merging for Seamless Continual Learning" (ECCV 2024). Only the scored model is merged: the next stage
starts from theta_t^ft. One copy of what is trained, theta_0 + tau_max, is kept on disk (two while a stage is under
way).
"""

import shutil
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hpa_bench import Method, MethodConfig, StageContext, Tunable, Weights
from hpa_bench.baselines.shared.task_vectors import keep, kept, task_vector, trained_weights


class MagMaxConfig(MethodConfig):
    """How far the scored model goes."""

    scale: Annotated[float, Tunable(0.2, 1.2)] = Field(1.0, ge=0)
    """lambda. 1.0 takes the largest changes as they are, so that after one task the scored model is the fine-tuned one.
    0.5 is what the official script has that merges eight independently fine-tuned models; the best value depends on
    how much the tasks' changes overlap."""


class MagMax(Method):
    """Score, of all the changes that fine-tuning made to a weight so far, the largest."""

    name: ClassVar[str] = "magmax"
    kind = "weights"
    Config: ClassVar[type[MethodConfig]] = MagMaxConfig

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> tuple[()]:
        """Keep theta_0 + tau_max of the stages so far, and leave the weights as they are."""

        def largest(name: str) -> Tensor:
            tuned = after[name].to(ctx.device)
            if ctx.stage == 1:
                return tuned
            start, earlier = ctx.start[name].to(ctx.device), previous[name].to(ctx.device)
            larger = task_vector(tuned, start).abs() >= task_vector(earlier, start).abs()
            return torch.where(larger, tuned, earlier)

        previous = kept(ctx, ctx.stage - 1) if ctx.stage > 1 else {}
        keep(ctx, largest)
        # Stage t - 1 stays, for a repeated stage t.
        shutil.rmtree(ctx.folder / f"stage{ctx.stage - 2}", ignore_errors=True)
        return ()

    def evaluated(self, handed_on: Weights, ctx: StageContext) -> Iterator[tuple[str, Tensor]]:
        """Yield theta_0 + lambda tau_max."""
        if not ctx.stage:
            return
        furthest = kept(ctx, ctx.stage)
        for name in trained_weights(ctx):
            start = ctx.start[name].to(ctx.device)
            tau = task_vector(furthest[name].to(ctx.device), start)
            yield name, (start + self.config.scale * tau).to(start.dtype)
