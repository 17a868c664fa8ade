"""`CE(batch) + alpha MSE(z, z_stored) + beta CE`, the last two on samples of earlier tasks: DER++.

z are the logits of a buffer sample's answer tokens, z_stored those that the model had for them when the sample's task
was over. Buzzega et al., "Dark Experience for General Continual Learning" (NeurIPS 2020); mammoth's models/derpp.py.
Both terms have a draw of their own from the buffer, one buffer sample for each sample of the batch. For an
autoregressive model, logits are those of the answer tokens, averaged over a sample's tokens, then over samples.

Where mammoth differs: it fills a buffer of a fixed size while a task is trained, with the logits of that moment; here
k samples of each task enter once it is over, with the merged model's logits. It draws a batch without replacement; here
every sample is drawn on its own, so that one batch of 8 is 8 accumulated batches of 1.

Safety samples, where asked for, stand in the buffer from the start, with the logits of theta_0.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hpa_bench import IGNORED, Batch, Method, MethodConfig, Need, Sample, StageContext, Tunable, Weights, load_into
from hpa_bench.baselines.shared.answers import answer_logits
from hpa_bench.baselines.shared.draws import own_draws
from hpa_bench.baselines.shared.safety_data import first_safety_samples

BUFFER_BATCH = 16
"""Samples of one forward pass when the buffer is filled."""

SAFETY = "safety data"
"""Stands for a task in the buffer; no task has a space in its name."""


class DERPPConfig(MethodConfig):
    """Weights of the two replay terms, and what is kept of each task."""

    alpha: Annotated[float, Tunable(0.03, 3, log=True)] = Field(0.3, ge=0)
    """Of the squared distance to the stored logits. Mammoth requires a value; 0.3 and beta 0.5 are those of its
    models/config/derpp.yaml (seq-cifar100, buffer 500). It depends on the scale of the logits."""
    beta: Annotated[float, Tunable(0.05, 5, log=True)] = Field(0.5, ge=0)
    """Of the replayed cross entropy. Source: see `alpha`."""
    per_task: int = Field(200, ge=0)
    """Samples kept of each task, all of a smaller one: as many as `replay` keeps, so that the two compare. 0 is
    `seqft`."""
    top_k: int | None = Field(None, ge=1)
    """Store, and compare, the k largest logits of each answer token alone. None, as mammoth: the whole vocabulary,
    which for 32,000 words in bfloat16 is 64 kB a token."""
    safety_samples: int = Field(0, ge=0)
    """Also keep so many samples of the suite's safety data, with the aligned model's logits, and draw them as the rest
    of the buffer, from the first stage on. This method then knows data that continual learning on tasks alone does not
    have: report it apart, as DER++ + safety."""


class DERPP(Method):
    """Replay earlier tasks' samples with their answers and with the logits that the model had for them."""

    name: ClassVar[str] = "derpp"
    kind = "data"
    Config: ClassVar[type[MethodConfig]] = DERPPConfig

    def __init__(self, config: DERPPConfig | None = None) -> None:
        super().__init__(config)
        self.buffer: dict[str, Tensor] = {}
        """By `<task>/<row>/<kind>`: `logits` `[answer tokens, V or k]` and, of the k largest, their `words` int64."""
        self._kept: list[str] = []

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Nothing, or safety data where the buffer holds some of it."""
        return frozenset({"safety_data"} if self.config.safety_samples else ())

    def start(self, ctx: StageContext) -> None:
        """Store the aligned model's logits of safety samples, where asked for."""
        if self.config.alpha or self.config.beta:
            safety = first_safety_samples(ctx, self.config.safety_samples, self.name, "safety_samples")
            self._store(SAFETY, safety, torch.arange(len(safety)), ctx.start, ctx)

    def training_data(self, samples: Sequence[Sample], ctx: StageContext) -> Sequence[Sample]:
        """Return the samples as they are; the buffer is read in `penalty`."""
        self._ctx = ctx
        self._kept = sorted(key.removesuffix("/logits") for key in self.buffer if key.endswith("/logits"))
        return samples

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return alpha MSE + beta cross entropy of buffer samples, each a mean over samples."""
        alpha, beta = self.config.alpha, self.config.beta
        if not self._kept or not (alpha or beta):
            return None
        draws = own_draws(len(self._kept), len(batch["input_ids"]), 2)
        first, second = ([self._kept[index] for index in column] for column in draws.T.tolist())
        penalty = torch.zeros((), device=self._ctx.device)
        if alpha:
            z, _, share = answer_logits(model, self._ctx.collate(self._samples(first)))
            stored = torch.cat([self.buffer[f"{key}/logits"] for key in first]).to(z.device)
            if f"{first[0]}/words" in self.buffer:
                z = z.gather(1, torch.cat([self.buffer[f"{key}/words"] for key in first]).to(z.device))
            penalty = penalty + alpha * (share * (z.float() - stored.float()).square().mean(1)).sum()
        if beta:
            z, answers, share = answer_logits(model, self._ctx.collate(self._samples(second)))
            penalty = penalty + beta * (share * cross_entropy(z.float(), answers, reduction="none")).sum()
        return penalty

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> tuple[()]:
        """Draw samples of the stage's tasks, store the merged model's logits, and leave the weights as they are."""
        if not self.config.per_task or not (self.config.alpha or self.config.beta):
            return ()
        for task in ctx.tasks:
            samples = ctx.samples(task)
            rows = torch.randperm(len(samples), generator=ctx.generator(f"{self.name}/{task}"))[: self.config.per_task]
            self._store(task, samples, rows, after, ctx)
        return ()

    def _store(self, task: str, samples: Sequence[Sample], rows: Tensor, weights: Weights, ctx: StageContext) -> None:
        """Put rows of a task's samples into the buffer, with the logits of a model with these weights."""
        if not len(rows):
            return
        load_into(ctx.model, weights)
        ctx.model.eval()
        for some in rows.split(BUFFER_BATCH):
            inputs = ctx.collate([samples[row] for row in some.tolist()])
            with torch.no_grad():
                logits, _, _ = answer_logits(ctx.model, inputs)
            lengths = (inputs["labels"] != IGNORED).sum(1).tolist()
            for row, z in zip(some.tolist(), logits.cpu().split(lengths), strict=True):
                key = f"{task}/{row}"
                if self.config.top_k is not None and self.config.top_k < z.shape[1]:
                    z, self.buffer[f"{key}/words"] = z.topk(self.config.top_k)
                self.buffer[f"{key}/logits"] = z.clone()

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the stored logits by task and row; the samples themselves are the suite's."""
        return self.buffer

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the stored logits back."""
        self.buffer = dict(state)

    def _samples(self, keys: Sequence[str]) -> list[Sample]:
        return [self._samples_of(task)[int(row)] for task, _, row in (key.rpartition("/") for key in keys)]

    def _samples_of(self, task: str) -> Sequence[Sample]:
        return self._ctx.safety_data() if task == SAFETY else self._ctx.samples(task)
