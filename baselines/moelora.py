"""MoELoRA: several small LoRA experts a layer, mixed token by token by a router, carried on from task to task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hpa_bench.errors import UserError
from hpa_bench.method import Method, MethodConfig, StageContext

if TYPE_CHECKING:
    from torch import Tensor, nn


class MoELoRAConfig(MethodConfig):
    """Hyper-parameters of MoELoRA."""

    experts: int = Field(8, ge=1)
    """E, which share the suite's `lora.rank` (CoIN's scripts: 8; its config class: 4)."""


class MoELoRA(Method):
    """`y = W x + alpha/r sum_k p_k(x) B_k A_k x`, `p(x) = softmax(G x)` for every token, all experts active.

    CoIN (Chen et al., NeurIPS 2024). The mixture depends on x, so it cannot be merged: the aligned model's weights stay
    as they are, one adapter is trained further in every stage, and the others' fresh LoRA a stage is a different
    protocol. r is the rank of all experts together; A_k begins as N(0, 0.01^2), B_k at 0.
    """

    name: ClassVar[str] = "moelora"
    Config: ClassVar[type[MethodConfig]] = MoELoRAConfig
    mergeable: ClassVar[bool] = False

    def __init__(self, config: MoELoRAConfig | None = None) -> None:
        super().__init__(config)
        self.adapter: dict[str, Tensor] = {}

    def wrap(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Return the model with experts on every linear layer, as the stage before left them.

        Raises:
            UserError: the rank is not a multiple of the experts.
        """
        if ctx.lora.rank % self.config.experts:
            raise UserError(
                f"lora.rank={ctx.lora.rank} cannot be shared by experts={self.config.experts} of method {self.name!r}:"
                " expected a multiple."
            )
        wrapped = with_experts(model, ctx, self.config.experts)
        if self.adapter:
            wrapped.load_state_dict(self.adapter)
        return wrapped.eval()

    def edit_adapter(self, model: nn.Module, ctx: StageContext) -> None:
        """Remember the trained experts and routers."""
        self.adapter = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return experts and routers, float32; layers are numbered in the model's order."""
        return self.adapter

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.adapter = dict(state)


def with_experts(model: nn.Module, ctx: StageContext, experts: int) -> Any:
    """Return a module that runs the model with experts on its linear layers; its state is theirs alone.

    `unload()` leaves the model as it was.
    """
    import torch
    from torch import nn

    rank, scale = ctx.lora.rank, ctx.lora.alpha / ctx.lora.rank

    class Experts(nn.Module):
        """The experts of one layer: `a` `[r, in]`, `b` `[out, r]`, `router` `[E, in]`, r / E rows of A an expert."""

        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            on = {"device": layer.weight.device, "dtype": torch.float32}
            self.a = nn.Parameter(torch.empty(rank, layer.in_features, **on).normal_(std=0.01))
            self.b = nn.Parameter(torch.zeros(layer.out_features, rank, **on))
            self.router = nn.Linear(layer.in_features, experts, bias=False, **on)
            self.dropout = nn.Dropout(ctx.lora.dropout)

        def forward(self, x: Tensor) -> Tensor:
            x = x.to(self.a.dtype)
            p = self.router(x).softmax(-1).repeat_interleave(rank // experts, dim=-1)
            return scale * ((self.dropout(x) @ self.a.T) * p) @ self.b.T

    class WithExperts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Hidden from the module's own state: a checkpoint of it is the adapter alone.
            self.__dict__["model"] = model
            names = [name for block in ctx.layers for name in block]
            self.experts = nn.ModuleList(Experts(model.get_submodule(name)) for name in names)  # type: ignore[arg-type]
            self._flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
            model.requires_grad_(False)
            self._hooks = [
                model.get_submodule(name).register_forward_hook(
                    lambda _, args, y, experts=experts: y + experts(args[0]).to(y.dtype)
                )
                for name, experts in zip(names, self.experts, strict=True)
            ]

        def forward(self, **inputs: Any) -> Any:
            return model(**inputs)

        def train(self, mode: bool = True) -> WithExperts:
            model.train(mode)
            return super().train(mode)

        def gradient_checkpointing_enable(self, **keywords: Any) -> None:
            model.gradient_checkpointing_enable(**keywords)  # type: ignore[operator]

        def gradient_checkpointing_disable(self) -> None:
            model.gradient_checkpointing_disable()  # type: ignore[operator]

        def unload(self) -> None:
            for hook in self._hooks:
                hook.remove()
            for parameter, flag in self._flags:
                parameter.requires_grad_(flag)

    return WithExperts()
