"""`y = W x + alpha/r sum_k p_k(x) B_k A_k x`, `p(x) = softmax(G x)` for every token, all experts active: MoELoRA.

CoIN (Chen et al., NeurIPS 2024). The mixture depends on x, so it cannot be merged: the aligned model's weights stay as
they are, one adapter is trained further in every stage, and the others' fresh LoRA a stage is a different protocol. r
is the rank of all experts together; A_k begins as N(0, 0.01^2), B_k at 0.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from hpa_bench import LoRAConfig, Method, MethodConfig, StageContext, Tunable, UserError


class MoELoRAConfig(MethodConfig):
    """Hyper-parameters of MoELoRA."""

    experts: Annotated[int, Tunable(choices=(1, 2, 4, 8, 16))] = Field(8, ge=1, le=2**16)
    """E, which share the suite's `lora.rank` (CoIN's scripts: 8; its config class: 4)."""


class MoELoRA(Method):
    """Carry several small LoRA experts a layer, mixed token by token by a router, on from task to task."""

    name: ClassVar[str] = "moelora"
    kind = "structure"
    Config: ClassVar[type[MethodConfig]] = MoELoRAConfig
    mergeable: ClassVar[bool] = False

    def __init__(self, config: MoELoRAConfig | None = None) -> None:
        super().__init__(config)
        self.adapter: dict[str, Tensor] = {}

    def start(self, ctx: StageContext) -> None:
        """Check that the experts can share the rank.

        Raises:
            UserError: it is not a multiple of their number.
        """
        if ctx.lora.rank % self.config.experts:
            raise UserError(
                f"lora.rank={ctx.lora.rank} cannot be shared by experts={self.config.experts} of method {self.name!r}:"
                " expected a multiple."
            )

    def wrap(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Return the model with experts on every linear layer, as the stage before left them."""
        wrapped = WithExperts(model, ctx.linear_layers, ctx.lora, self.config.experts)
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


class Experts(nn.Module):
    """The experts of one layer: `a` `[r, in]`, `b` `[out, r]`, `router` `[E, in]`, r / E rows of A an expert."""

    def __init__(self, layer: nn.Linear, lora: LoRAConfig, experts: int) -> None:
        super().__init__()
        on = {"device": layer.weight.device, "dtype": torch.float32}
        self.scale, self.each = lora.alpha / lora.rank, lora.rank // experts
        self.a = nn.Parameter(torch.empty(lora.rank, layer.in_features, **on).normal_(std=0.01))
        self.b = nn.Parameter(torch.zeros(layer.out_features, lora.rank, **on))
        self.router = nn.Linear(layer.in_features, experts, bias=False, **on)
        self.dropout = nn.Dropout(lora.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the experts add to the layer's output, float32."""
        x = x.to(self.a.dtype)
        p = self.router(x).softmax(-1).repeat_interleave(self.each, dim=-1)
        return self.scale * ((self.dropout(x) @ self.a.T) * p) @ self.b.T


class WithExperts(nn.Module):
    """The model with experts on its linear layers; its state is theirs alone, and `unload` takes them off again."""

    def __init__(self, model: nn.Module, names: Sequence[str], lora: LoRAConfig, experts: int) -> None:
        super().__init__()
        # Hidden from the module's own state: a checkpoint of it is the adapter alone.
        self.__dict__["model"] = model
        layers = [model.get_submodule(name) for name in names]
        self.experts = nn.ModuleList(Experts(layer, lora, experts) for layer in layers)  # type: ignore[arg-type]
        self._flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        model.requires_grad_(False)
        self._hooks = [
            layer.register_forward_hook(lambda _, args, y, added=added: y + added(args[0]).to(y.dtype))
            for layer, added in zip(layers, self.experts, strict=True)
        ]

    def forward(self, **inputs: Any) -> Any:
        """Run the model; its layers' hooks add what the experts give."""
        return self.model(**inputs)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the model and of the experts' dropout."""
        self.model.train(mode)
        return super().train(mode)

    def get_output_embeddings(self) -> Any:
        """Return the model's head."""
        return self.model.get_output_embeddings()

    def gradient_checkpointing_enable(self, **keywords: Any) -> None:
        """Pass on to the model."""
        self.model.gradient_checkpointing_enable(**keywords)

    def gradient_checkpointing_disable(self) -> None:
        """Pass on to the model."""
        self.model.gradient_checkpointing_disable()

    def unload(self) -> None:
        """Take the experts off."""
        for hook in self._hooks:
            hook.remove()
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)
