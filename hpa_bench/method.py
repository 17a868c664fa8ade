"""What a method is, and all that it may see and touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from hpa_bench.config import BaseConfig
from hpa_bench.registry import Registry
from hpa_bench.seeds import derive_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from hpa_bench.data.samples import Sample
    from hpa_bench.models.config import LoRAConfig
    from hpa_bench.models.decoder import Decoder
    from hpa_bench.models.prompts import Batch
    from hpa_bench.models.weights import Weights

Need = Literal["safety_calibration", "task_calibration", "unaligned_model", "safety_data"]
MethodKind = Literal["reference", "data", "loss", "structure", "columns", "weights", "other"]
"""What a method changes: the training data, the loss, what is trained, which columns stay, or the weights after the
merge; a reference changes nothing of that."""


class MethodConfig(BaseConfig):
    """Hyper-parameters of a method: frozen, unknown keys refused, defaults from the paper."""


class SafetyCalibration(Protocol):
    """Gives the safety calibration samples D_s."""

    def __call__(self, count: int | None = None) -> Sequence[Batch]:
        """Return model inputs of `count` samples, or of as many as the suite says.

        Fewer, with a warning, where the aligned model refuses fewer of the suite's requests. A smaller count gives the
        first samples of a larger one.
        """
        ...


@dataclass(frozen=True)
class StageContext:
    """One stage as a method sees it.

    Weights are read-only mappings from parameter name (`<module>.weight`) to tensor, read from disk when asked for.
    """

    stage: int
    """t, counted from 1."""
    stages: int
    """T, the number of stages of this run."""
    tasks: tuple[str, ...]
    """The tasks trained in this stage; one, unless the method's curriculum says otherwise."""
    seed: int
    """The run's seed; draw from `generator`, which is derived from it."""
    device: str
    lora: LoRAConfig
    model: nn.Module
    """The model object. Inside `adapt` its weights are the method's to set (see `hpa_bench.load_into`)."""
    decoder: Decoder
    """Where the language model's blocks are in it; for `hpa_bench.ActivationStream`."""
    start: Weights
    """theta_0, the aligned model."""
    before: Weights
    """theta_{t-1}, what this stage starts from."""
    unaligned: Weights | None
    """The model before its safety alignment, where the suite has one."""
    folder: Path
    """Where the method keeps files of its own; it outlives the stage."""
    safety_calibration: SafetyCalibration
    """Model inputs of the safety calibration samples D_s: harmful requests, answered by the aligned model itself. Their
    number is the suite's, or the method's own as in `safety_calibration(128)`."""
    task_calibration: Callable[[], Sequence[Batch]]
    """Model inputs of the task calibration samples D_t, from this stage's training data."""
    samples: Callable[[str], Sequence[Sample]]
    """The training samples of a task of this stage or of an earlier one; a later one is refused (KeyError)."""
    safety_data: Callable[[], Sequence[Sample]]
    """The suite's safety data: harmful requests with safe answers, for methods that train on some."""
    collate: Callable[[Sequence[Sample]], Batch]
    """Return model inputs of samples as one batch on `device`, labels included (-100 where there is no answer)."""
    finished: Weights = field(default_factory=dict)
    """Weights that are edited already, where a killed edit goes on; a method may yield them again or not."""

    @property
    def layers(self) -> Sequence[Sequence[str]]:
        """Module names of the language model's linear layers, one list a decoder block."""
        return self.decoder.layers

    @property
    def linear_layers(self) -> list[str]:
        """The same names in one list."""
        return self.decoder.linear_layers

    @property
    def blocks(self) -> list[tuple[int, Sequence[str]]]:
        """The index and the linear layers of each decoder block that is still to be edited."""
        return [
            (index, names)
            for index, names in enumerate(self.layers)
            if not all(f"{name}.weight" in self.finished for name in names)
        ]

    def generator(self, name: str) -> torch.Generator:
        """Return a CPU generator that depends on the seed, the stage and `name` alone."""
        import torch

        return torch.Generator().manual_seed(derive_seed(self.seed, f"{name}/{self.stage}"))


class Method:
    """Sequential LoRA fine-tuning; a method overrides the hooks where it differs.

    Every stage trains what `wrap` returns on what `training_data` returns, merges the adapter into the weights, lets
    `adapt` edit them, and hands them on. Hooks return values; they never reach into the trainer.
    """

    name: ClassVar[str]
    """As on the command line; the entry point has the same name."""
    kind: ClassVar[MethodKind] = "other"
    """What it changes, and with it its colour in reports."""
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    needs: frozenset[Need] = frozenset()
    """What the suite must offer; refused with one sentence where it does not."""
    mergeable: ClassVar[bool] = True
    """False: the weights stay theta_0's, and what `wrap` adds is carried on in `state_dict` and generated with, by
    Hugging Face alone. `wrap` must then put the carried state back, and what it returns has `unload()`."""
    keeps_columns: ClassVar[bool] = False
    """Whether `adapt` gives whole columns of a layer back as `before` has them: a report then says how far these are
    the columns of the largest update."""

    def __init__(self, config: MethodConfig | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()

    def curriculum(self, tasks: Sequence[str]) -> Sequence[Sequence[str]]:
        """Return the tasks of each stage; by default one stage a task, in order."""
        return [[task] for task in tasks]

    def start(self, ctx: StageContext) -> None:
        """Prepare, once, on the aligned model, before it is scored; refuse here what no run can end with."""

    def training_data(self, samples: Sequence[Sample], ctx: StageContext) -> Sequence[Sample]:
        """Return what this stage trains on, given its tasks' training samples."""
        return samples

    def wrap(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Return the model with the parameters that this stage trains; by default a fresh LoRA on every layer."""
        from hpa_bench.models.adapters import attach_lora

        return attach_lora(model, ctx.lora, ctx.linear_layers)

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return a scalar added to the task loss of one optimiser step, or None: for what does not grow with the batch.

        Over gradient accumulation the harness takes the mean of the micro-batches' penalties.
        """
        return None

    def token_penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor | None:
        """Return a scalar summed over the answer tokens of this batch, or None: for losses such as distillation.

        The harness divides it by the answer tokens of the whole optimiser step, as it does the task loss.
        """
        return None

    def edit_adapter(self, model: nn.Module, ctx: StageContext) -> None:
        """Change or remember the trained adapter before it is merged."""

    def adapt(self, before: Weights, after: Weights, ctx: StageContext) -> Iterable[tuple[str, Tensor]]:
        """Yield the weights that the method changes after the merge, by name; what is not yielded stays `after`'s.

        Args:
            before: theta_{t-1}.
            after: theta_{t-1} with the trained adapter merged in.
        """
        return ()

    def evaluated(self, handed_on: Weights, ctx: StageContext) -> Iterable[tuple[str, Tensor]]:
        """Yield the weights by which the scored model differs from the one handed on to the next stage."""
        return ()

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return what the method carries to the next stage; saved as safetensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned at the end of the stage before."""


methods: Registry[Method] = Registry("method", "hpa_bench.methods", Method)
