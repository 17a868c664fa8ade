"""Fine-tune one stage: Hugging Face Trainer on what the method wrapped, with the method's penalty added to the loss."""

from __future__ import annotations

import inspect
import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from peft import PeftModel
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.loss.loss_utils import ForCausalLMLoss

from hpa_bench.errors import UserError
from hpa_bench.files import read_object, write_json
from hpa_bench.machine.device import explained_shortage
from hpa_bench.machine.group import barrier, from_main
from hpa_bench.machine.processes import is_main, processes
from hpa_bench.method import Method
from hpa_bench.models.adapters import trained_in
from hpa_bench.models.answers import AnswerRows
from hpa_bench.models.prompts import IGNORED, training_batch
from hpa_bench.results.seals import check, seal_of
from hpa_bench.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import ProcessorMixin, TrainerControl, TrainerState

    from hpa_bench.data.samples import Sample
    from hpa_bench.suite import TrainingConfig

logger = logging.getLogger(__name__)
# peft still reads a property that transformers renamed; nobody here can do anything about it.
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
# Its new name came after the oldest transformers that this package takes.
warnings.filterwarnings("ignore", message=".*gradient_checkpointing_(en|dis)able", category=FutureWarning)

_WHOLE, _SPENT = "WHOLE", "spent.json"
SAVING_SHARE = 0.1
"""Of a training's time that its further checkpoints may take, where one takes more than `SAVING_SECONDS`."""
SAVING_SECONDS = 1.0


class Step(NamedTuple):
    """An optimiser step that was taken."""

    done: int
    total: int
    loss: float
    """Of the step's samples, with the method's penalty."""
    learning_rate: float
    seconds: float
    samples_per_second: float


class Done(NamedTuple):
    """A training that is over."""

    steps: int
    """Of the optimiser."""
    earlier: float
    """The seconds that earlier attempts took until the checkpoint that this one went on from."""


@dataclass(frozen=True)
class Training:
    """One training, beside the model and the samples."""

    method: Method
    """Gives the penalty."""
    processor: ProcessorMixin
    config: TrainingConfig
    seed: int
    """Of the data order."""
    folder: Path
    """Where checkpoints of the unfinished training are kept."""
    where: str
    """What it is a training of, for messages."""
    further: int | None = None
    """Every so many steps a checkpoint is kept beside those of `save_steps`, as long as these take no more than
    `SAVING_SHARE` of the time."""


def train(
    model: nn.Module, samples: Sequence[Sample], training: Training, on_step: Callable[[Step], None] = lambda step: None
) -> Done:
    """Train a wrapped model in place, going on from the last checkpoint of this training if there is one.

    Args:
        model: what the method's `wrap` returned.
        samples: the stage's training samples.
        training: how.
        on_step: called after every optimiser step.

    Raises:
        UserError: the loss became NaN or infinite; the message says at which step. Or a GPU's memory is full.
    """
    # A process killed while it saves leaves half a checkpoint; only a marked one is whole.
    marks = training.folder.glob(f"checkpoint-*/{_WHOLE}")
    whole = sorted((mark.parent for mark in marks), key=lambda folder: int(folder.name.split("-")[1]))
    last, earlier = (whole[-1] if whole else None), 0.0
    if last:
        check(last, last / _WHOLE, f"delete {last}, and the same command trains this stage from its beginning")
        earlier = read_object(last / _SPENT)["train"] if (last / _SPENT).exists() else 0.0
        logger.info("%s: training goes on from %s", training.where, last.name)
    window = _Window()
    trainer = _StageTrainer(
        training,
        window,
        model=model,
        args=_arguments(training, on_gpu=next(model.parameters()).is_cuda),
        train_dataset=samples,
        data_collator=partial(training_batch, training.processor),
    )
    trainer.add_callback(_Report(window, on_step, earlier))
    if training.further is not None:
        trainer.add_callback(_Further(training.further))
    trainer.remove_callback(PrinterCallback)
    with (
        _recomputing(model, training.config.gradient_checkpointing),
        explained_shortage(f"the training of {training.where}", _less(training.config)),
    ):
        return Done(trainer.train(resume_from_checkpoint=str(last) if last else None).global_step, earlier)


def _arguments(training: Training, on_gpu: bool) -> TrainingArguments:
    config = training.config
    batch_size, accumulation = share_of_step(config)
    workers = min(4, os.cpu_count() or 1) if on_gpu else 0
    arguments = TrainingArguments(
        output_dir=str(training.folder),
        learning_rate=config.learning_rate,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        save_steps=config.save_steps,
        seed=derive_seed(training.seed, "data order") % 2**31,
        use_cpu=not on_gpu,
        bf16=config.precision("cuda" if on_gpu else "cpu") == "bfloat16",
        # A method may train experts that a batch does not reach.
        ddp_find_unused_parameters=True,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        dataloader_num_workers=workers if config.workers is None else config.workers,
    )
    if arguments.n_gpu > 1:
        # Not launched: Trainer would split every batch over all the GPUs that it sees, by nn.DataParallel.
        arguments._n_gpu = 1
    return arguments


def _less(config: TrainingConfig) -> str:
    """Return what makes a training need less memory."""
    smaller = (
        "halve training.batch_size and double training.gradient_accumulation, which takes the same optimiser steps"
        " and is a run of its own"
    )
    if config.gradient_checkpointing:
        return smaller
    return f"go on with training.gradient_checkpointing=true, or {smaller}"


def share_of_step(config: TrainingConfig) -> tuple[int, int]:
    """Return `(batch size, accumulation)` of this process, so that all together take one optimiser step's samples.

    Raises:
        UserError: the samples of a step cannot be shared equally.
    """
    samples = config.batch_size * config.gradient_accumulation
    own, rest = divmod(samples, processes())
    if rest:
        raise UserError(
            f"{processes()} processes cannot share the {samples} samples of an optimiser step (training.batch_size"
            f" {config.batch_size} x training.gradient_accumulation {config.gradient_accumulation}) equally: launch a"
            " number of processes that divides it."
        )
    size = max(size for size in range(1, min(config.batch_size, own) + 1) if own % size == 0)
    return size, own // size


@contextmanager
def _recomputing(model: Any, on: bool) -> Iterator[None]:
    """Let the model keep no activations inside its blocks for a while (gradient checkpointing)."""
    if not on:
        yield
        return
    if not hasattr(model, "gradient_checkpointing_enable"):
        raise UserError(
            f"training.gradient_checkpointing: {type(model).__name__}, which the method trains, has no"
            " gradient_checkpointing_enable(); let it pass that of the model on, or switch it off."
        )
    # The reentrant kind gives no gradients where the embeddings are frozen, as they are under LoRA.
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()


@dataclass
class _Window:
    """The optimiser step at work. The trainer's callback holds this and not the trainer, which would keep both alive,
    and the model on the GPU with them."""

    loss: float = 0.0
    """The sum of what its micro-batches have contributed."""


def _counts_tokens(model: Any) -> bool:
    """Whether the loss of a model divides by the number of tokens that it is given (`num_items_in_batch`)."""
    model = model.get_base_model() if isinstance(model, PeftModel) else model
    takes = inspect.signature(model.forward).parameters.values()
    hands_on = any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in takes)
    return hands_on and getattr(model, "loss_function", None) is ForCausalLMLoss


class _StageTrainer(Trainer):
    def __init__(self, training: Training, window: _Window, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Some models ask to be left to weigh each batch alike (`accepts_loss_kwargs = False`), whose loss can count the
        # tokens of the whole step as that of the others does: a step would depend on how it is split.
        self.model_accepts_loss_kwargs |= _counts_tokens(self.model)
        self._method = training.method
        self._also = training.config.also
        self._answers_alone = training.config.answer_logits
        own = type(training.method)
        self._penalised = own.penalty is not Method.penalty or own.token_penalty is not Method.token_penalty
        self._where = training.where
        self._window = window
        self._unwrapped: tuple[Any, Any] = (None, None)
        """The model as it is called, and what the method wrapped; to look for the latter takes long."""

    def create_optimizer(self, *arguments: Any, **keywords: Any) -> Any:
        """Make the optimiser, with a learning rate of its own for each module of `training.also`."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(*arguments, **keywords)
        for module, rate in self._also.items() if fresh else ():
            own = {id(parameter) for parameter in trained_in(cast("nn.Module", self.model), module)}
            for group in list(optimizer.param_groups):
                mine = [parameter for parameter in group["params"] if id(parameter) in own]
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
                if mine:
                    optimizer.add_param_group({**group, "params": mine, "lr": rate})
        return optimizer

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: nobody asks, and to count takes longer than a small model's step."""
        return 0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        if self._unwrapped[0] is not model:
            self._unwrapped = model, self.accelerator.unwrap_model(model)
        bare = self._unwrapped[1]
        rows = AnswerRows(inputs["labels"]) if self._answers_alone else None
        with rows.chosen(bare) if rows else nullcontext():
            asked = {**inputs, "labels": rows.labels} if rows else inputs
            loss, outputs = super().compute_loss(
                model, asked, return_outputs=True, num_items_in_batch=num_items_in_batch
            )
        if rows and self._penalised:
            outputs = rows.spread(outputs)
        # Where the task loss is already a mean over the whole accumulation window, Trainer does not divide it: an
        # undivided penalty would count once for every micro-batch.
        whole_window = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        if (penalty := self._method.penalty(bare, inputs, outputs)) is not None:
            loss = loss + (penalty / self.current_gradient_accumulation_steps if whole_window else penalty)
        if (summed := self._method.token_penalty(bare, inputs, outputs)) is not None:
            tokens: Any = num_items_in_batch if whole_window else (inputs["labels"] != IGNORED).sum()
            # The count is over all processes, whose gradients are then averaged.
            loss = loss + summed / tokens * (self.accelerator.num_processes if whole_window else 1)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *arguments: Any, **keywords: Any) -> Tensor:
        loss = super().training_step(*arguments, **keywords)
        self._window.loss += loss.item()
        if not math.isfinite(self._window.loss):
            step, steps = self.state.global_step + 1, self.state.max_steps
            raise UserError(
                f"The training loss became {loss.item()} at step {step} of {steps} in {self._where}:"
                " the stages before it are kept; lower training.learning_rate or check the data."
            )
        return loss


class _Report(TrainerCallback):
    def __init__(self, window: _Window, on_step: Callable[[Step], None], earlier: float) -> None:
        self._window = window
        self._on_step = on_step
        self._began = time.perf_counter()
        self._start = self._began - earlier
        self._rate = 0.0

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        barrier()  # Every process saves its random state.
        if is_main():
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / _SPENT, {"train": time.perf_counter() - self._start})
            write_json(folder / _WHOLE, seal_of(folder))
            # Not Trainer's `save_total_limit`, which removes the one before while this one is not marked yet.
            for other in folder.parent.glob("checkpoint-*"):
                if other != folder:
                    shutil.rmtree(other)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began = time.perf_counter()

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        self._rate = optimizer.param_groups[0]["lr"]

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.perf_counter()
        seconds, self._began = now - self._began, now
        loss, self._window.loss = self._window.loss, 0.0
        samples = args.train_batch_size * args.gradient_accumulation_steps * processes()
        self._on_step(Step(state.global_step, state.max_steps, loss, self._rate, seconds, samples / max(seconds, 1e-9)))


class _Further(TrainerCallback):
    """Keeps a checkpoint every so many steps, unless the last one took too long for so soon another."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._took = 0.0
        self._ended = self._asked = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._asked = time.perf_counter()
        if control.should_save or state.global_step % self._every:
            return
        spent = self._asked - self._ended
        # Clocks differ, and all processes save or none does.
        control.should_save = from_main(self._took <= max(SAVING_SECONDS, SAVING_SHARE * (spent + self._took)))

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._ended = time.perf_counter()
        self._took = self._ended - self._asked
