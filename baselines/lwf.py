"""`CE + lambda mean KL(softmax(z_teacher / tau) || softmax(z / tau))` over the answer tokens: LwF.

Li and Hoiem, "Learning without Forgetting" (ECCV 2016), teacher-forced on the answers of the new task.
"""

import copy
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div

from hpa_bench import IGNORED, Batch, Method, MethodConfig, StageContext, Tunable, load_into, model_inputs


class LwFConfig(MethodConfig):
    """Hyper-parameters of LwF."""

    strength: Annotated[float, Tunable(0.05, 20, log=True)] = Field(1.0, ge=0)
    """lambda, the weight of the distillation added to the task loss (paper and avalanche 1; mammoth 0.5). Hinton's
    factor tau^2, which neither code has, is `strength=4` at tau 2. It lets the teacher outweigh the data: where the
    teacher gives a wrong token 0.95, the optimum for the right one, of two, is then 0.44; at 1 it is 0.77."""
    temperature: float = Field(2.0, gt=0)
    """tau (paper: 2)."""
    teacher: Literal["previous", "aligned"] = "previous"
    """`previous`: theta_{t-1}, the same model with its adapter switched off, as LwF has it. `aligned`: theta_0, the
    safety reading; it needs a second copy of the model in memory."""


class LwF(Method):
    """Keep the answers' distributions close to those of the model before the task."""

    name: ClassVar[str] = "lwf"
    kind = "loss"
    Config: ClassVar[type[MethodConfig]] = LwFConfig

    _aligned: nn.Module | None = None

    def wrap(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Return the model with a fresh LoRA, and keep a frozen copy of theta_0 where that is the teacher."""
        if self.config.strength and self.config.teacher == "aligned":
            self._aligned = copy.deepcopy(model).eval().requires_grad_(False)
            load_into(self._aligned, ctx.start)
        return super().wrap(model, ctx)

    def token_penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return the distillation loss summed over the answer tokens."""
        if self.config.strength == 0:
            return None
        # The logits at a position predict the next token.
        answers = batch["labels"][:, 1:] != IGNORED
        inputs = model_inputs(batch)
        with torch.no_grad():
            if self._aligned is None:
                with model.disable_adapter():  # type: ignore[operator]
                    teacher = model(**inputs).logits
            else:
                teacher = self._aligned(**inputs).logits
        distance = distillation(outputs.logits[:, :-1][answers], teacher[:, :-1][answers], self.config.temperature)
        return self.config.strength * distance

    def edit_adapter(self, model: nn.Module, ctx: StageContext) -> None:
        """Let the teacher go."""
        self._aligned = None


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return `sum_n KL(softmax(teacher_n / tau) || softmax(student_n / tau))` of logits `[n, V]`, in float32."""
    log_p, log_q = ((logits.float() / temperature).log_softmax(-1) for logits in (student, teacher))
    return kl_div(log_p, log_q, reduction="sum", log_target=True)
