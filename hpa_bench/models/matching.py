"""Whether checkpoints and adapters are of one model, told by the first tensor that is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from hpa_bench.errors import UserError
from hpa_bench.files import read_object
from hpa_bench.models.config import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hpa_bench.models.folder import REMEDY, check_file
from hpa_bench.models.shards import Shard
from hpa_bench.models.weights import Checkpoint, Merged, not_finite

UNMERGEABLE = ("use_dora", "fan_in_fan_out", "lora_bias", "rank_pattern", "alpha_pattern", "megatron_config")
"""What peft can do beside plain LoRA, by its configuration's keys."""


class NotGiven(Mapping[str, Tensor]):
    """Weights that a method may ask for, and that the user has not given."""

    def __init__(self, method: str, what: str, option: str) -> None:
        self._sentence = f"Method {method!r} needs {what}: give {option}."

    def __getitem__(self, name: str) -> Tensor:
        raise UserError(self._sentence)

    def __iter__(self) -> Iterator[str]:
        raise UserError(self._sentence)

    def __len__(self) -> int:
        raise UserError(self._sentence)


def check_complete(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Check that a checkpoint has every tensor of its model, in the model's shape.

    Raises:
        UserError: the message names the first that it lacks, or that has another shape.
    """
    for name, tensor in model.state_dict().items():
        if name not in checkpoint and not any(other in checkpoint for other in _tied(model, name)):
            raise UserError(
                f"The checkpoint {checkpoint.folder} lacks {name!r}, which {type(model).__name__} has by its"
                f" config.json: {REMEDY}."
            )
        if name in checkpoint and (shape := checkpoint.form(name).shape) != list(tensor.shape):
            raise UserError(
                f"The checkpoint {checkpoint.folder} has {name!r} of shape {shape} in its safetensors, and by its"
                f" config.json {list(tensor.shape)}: {REMEDY}."
            )


def check_same(other: Checkpoint, before: Checkpoint, model: nn.Module, option: str, whole: bool = True) -> None:
    """Check that a checkpoint is of the same model as the one before; what is tied may be stored under either name.

    Args:
        other: the checkpoint.
        before: the one that it has to fit.
        model: of both.
        option: by which the other was given, for messages.
        whole: whether it must have every tensor.

    Raises:
        UserError: the message names the first tensor that differs.
    """
    expected = "expected the same model, of the same shapes and vocabulary"
    for name in before:
        if name not in other:
            known = next((tied for tied in _tied(model, name) if tied in other), None)
            if known is not None:
                other.places[name] = other.places[known]
            elif whole:
                raise UserError(f"{option} {other.folder} has no {name!r}, which --before has: {expected}.")
            else:
                continue
        ours, theirs = before.form(name), other.form(name)
        if ours.shape != theirs.shape:
            raise UserError(
                f"The weight {name!r} is {theirs.shape} in {option} {other.folder} and {ours.shape} in --before:"
                f" {expected}."
            )


def check_adapter(folder: Path, before: Checkpoint) -> None:
    """Check that an adapter is LoRA that can be merged, and of this model.

    Args:
        folder: as peft's `save_pretrained` writes it.
        before: the checkpoint that it is to be merged into.

    Raises:
        UserError: it is torn, of another kind, of another model, or holds a value that is NaN or infinite.
    """
    config = read_object(folder / ADAPTER_CONFIG, REMEDY)
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        raise UserError(
            f"The adapter {folder} is no LoRA adapter without biases: merge it yourself, and give the model."
        )
    if more := next((key for key in UNMERGEABLE if config.get(key)), None):
        raise UserError(f"The adapter {folder} has {more}, beyond plain LoRA: merge it yourself, and give the model.")
    check_file(folder / ADAPTER_WEIGHTS)
    base = config.get("base_model_name_or_path")
    of_another = f"The adapter {folder} (of {base!r}, it says) is not of --before {before.folder}"
    try:
        merged = Merged(before, folder)
    except UserError as error:
        raise UserError(f"{of_another}: {str(error).rstrip('.')}.") from None
    for name in merged.trained:
        if (shape := merged.changed_shape(name)) != (expected := before.form(name).shape):
            raise UserError(
                f"{of_another}: it has a change of {name!r} of shape {shape}, and the weight is {expected}."
            )
    adapter = Shard(folder / ADAPTER_WEIGHTS)
    for name in adapter.forms:
        if not_finite(adapter.read(name)):
            raise UserError(f"The adapter {folder} holds NaN or infinite values in {name!r}: train or save it again.")
    adapter.close()


def doubt_of_base(folder: Path, bases: Iterable[str | Path]) -> str:
    """Return a sentence where an adapter says that it was trained on another model than any of these; else "".

    Of two paths the last parts are compared, and the names that links lead to, since models move between machines; of a
    name on the hub what follows its owner, also where it is the path of the hub's cache.

    Args:
        folder: as peft's `save_pretrained` writes it; where it names no base, there is nothing to doubt.
        bases: the models that it may have been trained on, as the user names them or by their folders; --before first.
    """
    named = read_object(folder / ADAPTER_CONFIG, REMEDY).get("base_model_name_or_path")
    given = list(bases)
    if not named or any(_called(named) & _called(base) for base in given):
        return ""
    return (
        f"The adapter {folder} was trained on {named!r}, it says, and --before is {given[0]}: its shapes fit, so it is"
        " merged into that; where these are two models, the edit means nothing."
    )


def _called(model: str | Path) -> set[str]:
    """Return what a model is called, whatever machine or owner it is of."""
    paths = (Path(model), Path(model).expanduser().resolve())
    cached = (part.rpartition("--")[2] for path in paths for part in path.parts if part.startswith("models--"))
    return {name.casefold() for name in (*cached, *(path.name for path in paths)) if name}


def _tied(model: nn.Module, name: str) -> list[str]:
    """Return the other names of a model's parameter."""
    named = dict(model.named_parameters(remove_duplicate=False))
    return [other for other, tensor in named.items() if other != name and tensor is named.get(name)]
