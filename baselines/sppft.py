"""`Delta_l = 0` for the decoder blocks l that carry safety: SPPFT.

Li et al., "Safety Layers in Aligned Large Language Models" (ICLR 2025). The paper freezes the attention and MLP weights
of a run of middle blocks; without an adapter they stay as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from hpa_bench import (
    IGNORED,
    Batch,
    Method,
    MethodConfig,
    Need,
    StageContext,
    Tunable,
    UserError,
    attach_lora,
    load_into,
    model_inputs,
)


class SPPFTConfig(MethodConfig):
    """Which decoder blocks are frozen."""

    layers: tuple[int, ...] | Literal["depth", "localise"] = "depth"
    """Indices of blocks, from 0; or `depth`: from `first` to `last`, at least one; or `localise`: where the angle
    between harmful and harmless requests grows faster than on average, around its steepest block (the paper's first
    step; its second, counting refusals with scaled weights, needs a judge and is not here)."""
    first: Annotated[float, Tunable(0, 0.5)] = Field(5 / 32, ge=0, le=1)
    """Share of the depth. The authors' script freezes blocks 5 to 14 of 32 (begin_num 4, end_num 15, both exclusive);
    the paper gives ranges for other models, none for LLaVA."""
    last: Annotated[float, Tunable(0.2, 0.8)] = Field(15 / 32, ge=0, le=1)
    """Share of the depth where the frozen blocks end, exclusive."""


class SPPFT(Method):
    """Train no adapter on the decoder blocks that carry safety."""

    name: ClassVar[str] = "sppft"
    kind = "structure"
    Config: ClassVar[type[MethodConfig]] = SPPFTConfig

    def __init__(self, config: SPPFTConfig | None = None) -> None:
        super().__init__(config)
        self.found: tuple[int, ...] | None = None
        """The blocks that were localised on the aligned model, in the first stage."""

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Nothing, or harmful and harmless requests where the blocks are localised."""
        localised = self.config.layers == "localise"
        return frozenset({"safety_calibration", "task_calibration"} if localised else ())

    def frozen(self, ctx: StageContext) -> set[int]:
        """Return the indices of the frozen blocks."""
        blocks = len(ctx.layers)
        match self.config.layers:
            case "depth":
                first = min(round(self.config.first * blocks), blocks - 1)
                return set(range(first, max(first + 1, round(self.config.last * blocks))))
            case "localise":
                if self.found is None:
                    self.found = self._localised(ctx)
                return set(self.found)
        return set(self.config.layers)

    def _localised(self, ctx: StageContext) -> tuple[int, ...]:
        harmful, harmless = ctx.safety_calibration(), ctx.task_calibration()
        load_into(ctx.model, ctx.start)
        states = [last_prompt_states(ctx.model, batches) for batches in (harmless, harmful)]
        load_into(ctx.model, ctx.before)
        if len(states[0]) < 2:
            raise UserError(
                f"Method {self.name!r} compares pairs of task calibration samples and has {len(states[0])}:"
                " set calibration.task_samples to 2 or more."
            )
        return steepest_run(angle_gaps(*states))

    def start(self, ctx: StageContext) -> None:
        """Check the blocks, unless they are yet to be localised."""
        if self.config.layers != "localise":
            self.trained(ctx)

    def wrap(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Return the model with adapters on the other blocks."""
        return attach_lora(model, ctx.lora, self.trained(ctx))

    def trained(self, ctx: StageContext) -> list[str]:
        """Return the layers of the blocks that are not frozen; refuse a block that is not there, and to freeze all."""
        frozen, blocks = self.frozen(ctx), len(ctx.layers)
        if strangers := frozen - set(range(blocks)):
            raise UserError(
                f"layers of method {self.name!r} names block {min(strangers)}: this model has 0 to {blocks - 1}."
            )
        if trained := [name for index, block in enumerate(ctx.layers) if index not in frozen for name in block]:
            return trained
        raise UserError(f"Method {self.name!r} freezes all {blocks} decoder blocks: leave at least one to train.")

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the localised blocks."""
        return {} if self.found is None else {"layers": torch.tensor(self.found)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.found = tuple(state["layers"].tolist()) if "layers" in state else None


def last_prompt_states(model: nn.Module, batches: Sequence[Batch]) -> Tensor:
    """Return what leaves each block at the last token before the answer: `[samples, blocks, hidden]`, float32.

    The last block's has gone through the final norm, as transformers gives it.
    """
    found = []
    for batch in batches:
        with torch.no_grad():
            states = model.eval()(**model_inputs(batch), output_hidden_states=True).hidden_states[1:]
        last = (batch["labels"] != IGNORED).int().argmax(1) - 1
        found.append(torch.stack([state[torch.arange(len(last)), last] for state in states], dim=1).float())
    return torch.cat(found)


def angle_gaps(harmless: Tensor, harmful: Tensor) -> Tensor:
    """Return the mean angle between a harmless and a harmful state minus that of two harmless ones, radians `[blocks]`.

    States are `[samples, blocks, hidden]`.
    """
    a, b = (normalize(states, dim=-1).transpose(0, 1) for states in (harmless, harmful))
    within, across = ((a @ other.mT).clamp(-1, 1).acos() for other in (a, b))
    pairs = ~torch.eye(len(harmless), dtype=torch.bool, device=a.device)
    return across.mean((1, 2)) - within[:, pairs].mean(1)


def steepest_run(gaps: Tensor) -> tuple[int, ...]:
    """Return the blocks around the steepest growth of the gap whose growth is above the mean over blocks."""
    growth = gaps.diff(prepend=gaps.new_zeros(1))
    above = (growth >= growth.mean()).tolist()
    first = last = int(growth.argmax())
    while first > 0 and above[first - 1]:
        first -= 1
    while last + 1 < len(above) and above[last + 1]:
        last += 1
    return tuple(range(first, last + 1))
