"""`CE(D_t + k samples of each of D_1..D_{t-1})`, shuffled together: experience replay.

ER (Chaudhry et al., arXiv 1902.10486) as continual instruction tuning uses it: `D_t` and the buffer are one data set,
every sample weighs 1, and k samples of each task, drawn without replacement, enter once the task is over. Mammoth's
`er` (models/er.py) differs: one buffer of a fixed size, filled by reservoir sampling while a task is trained, and as
many replayed as new samples in every batch. Here stage t has (t - 1) k samples more.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hpa_bench import Method, MethodConfig, Need, Sample, StageContext, Weights
from hpa_bench.baselines.shared.safety_data import first_safety_samples


class ReplayConfig(MethodConfig):
    """What is kept of each task."""

    per_task: int = Field(200, ge=0)
    """k, samples kept of each task, all of a smaller one; 0 is `seqft`. Papers keep 1-10% of a task, or 100-200 samples
    of each. The count is the default, since a buffer's cost is its size; it is half of a task of the tiny suite."""
    ratio: float | None = Field(None, ge=0, le=1)
    """Keep this share of each task, rounded, in place of `per_task`; 0.01 is the lower end of what papers keep."""
    replay_safety: int = Field(0, ge=0)
    """Also train on so many samples of the suite's safety data, the same in every stage. This method then knows data
    that continual learning on tasks alone does not have: report it apart, as replay + safety."""


class Replay(Method):
    """Train on the stage's samples and a random part of every earlier task's, shuffled together."""

    name: ClassVar[str] = "replay"
    kind = "data"
    Config: ClassVar[type[MethodConfig]] = ReplayConfig

    def __init__(self, config: ReplayConfig | None = None) -> None:
        super().__init__(config)
        self.kept: dict[str, Tensor] = {}
        """Indices of the kept training samples, int64 `[k]`, by task."""

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Nothing, or safety data where some of it is replayed."""
        return frozenset({"safety_data"} if self.config.replay_safety else ())

    def start(self, ctx: StageContext) -> None:
        """Check that there are so many safety samples."""
        first_safety_samples(ctx, self.config.replay_safety, self.name, "replay_safety")

    def training_data(self, samples: Sequence[Sample], ctx: StageContext) -> Sequence[Sample]:
        """Return the stage's samples, then what is kept of earlier tasks, then safety samples."""
        earlier = [ctx.samples(task)[row] for task in sorted(self.kept) for row in self.kept[task].tolist()]
        safety = first_safety_samples(ctx, self.config.replay_safety, self.name, "replay_safety")
        return [*samples, *earlier, *safety]

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> tuple[()]:
        """Draw what is kept of the stage's tasks, and leave the weights as they are."""
        for task in ctx.tasks:
            count = len(ctx.samples(task))
            kept = self.config.per_task if self.config.ratio is None else round(self.config.ratio * count)
            self.kept[task] = torch.randperm(count, generator=ctx.generator(f"{self.name}/{task}"))[:kept]
        return ()

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the indices by task; the samples themselves are the suite's."""
        return self.kept

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the indices back."""
        self.kept = dict(state)
