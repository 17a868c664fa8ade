"""The checkpoints and the calibration samples that an edit reads, opened and found to fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpa_bench.adaptation import OPTIONS, ROWS, Adaptation, rows_file
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.errors import UserError
from hpa_bench.models.ahead import ReadAhead, Sound
from hpa_bench.models.decoder import Decoder, find_decoder
from hpa_bench.models.loading import checkpoint_folder
from hpa_bench.models.matching import NotGiven, check_adapter, check_complete, check_same
from hpa_bench.models.prompts import Batch, check_template, tokenizer_of, training_batch
from hpa_bench.models.skeleton import load_skeleton, processor_of
from hpa_bench.models.weights import Checkpoint, Merged, Weights
from hpa_bench.runner.inputs import shuffled, task_calibration
from hpa_bench.suite import DecoderConfig

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample


@dataclass(frozen=True)
class Opened:
    """What an edit reads; the checkpoints are of one model."""

    model: Any
    """Without weights."""
    processor: Any
    """None where nothing is calibrated."""
    decoder: Decoder
    like: Checkpoint
    """The checkpoint before, whose layout is followed."""
    before: ReadAhead
    after: Weights
    single: Weights
    """What `after` is, for whoever wants a few weights of many blocks."""
    start: Weights
    unaligned: Weights | None
    folders: Mapping[str, Path]
    """Of the checkpoints, by part: before, after, start, unaligned."""
    samples: Mapping[str, Sequence[Sample]]
    """Calibration sources by the option that gives them; of the task, only what is calibrated on."""
    device: str

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Return model inputs of samples as one batch on the device, labels included."""
        return {name: tensor.to(self.device) for name, tensor in training_batch(self.processor, samples).items()}


def open_all(asked: Adaptation, device: str) -> Opened:
    """Open all that an edit reads, and see that it fits together.

    Args:
        asked: what is to be edited.
        device: a torch device.

    Raises:
        UserError: something is torn, of another model, or nothing to calibrate on; the message names the first of it.
    """
    recipe = asked.recipe
    folders = {"before": checkpoint_folder(asked.before)}
    model = load_skeleton(folders["before"], device, recipe.precision(device))
    where = recipe.decoder or DecoderConfig()
    decoder = find_decoder(model, where.blocks, where.layers)
    like = Checkpoint(folders["before"], model)
    check_complete(like, model)
    before = ReadAhead(Sound(like, "--before"), decoder)

    def opened(part: str, named: str, whole: bool = True) -> Sound:
        folders[part] = checkpoint_folder(named)
        checkpoint = Checkpoint(folders[part], model)
        check_same(checkpoint, like, model, f"--{part}", whole)
        return Sound(checkpoint, f"--{part}")

    after: Weights
    single: Weights
    if asked.has_adapter:
        folders["after"] = Path(asked.after).expanduser()
        check_adapter(folders["after"], like)
        after, single = (Merged(weights, folders["after"], device) for weights in (before, Sound(like, "--before")))
    else:
        single = opened("after", asked.after)
        after = ReadAhead(single, decoder)
    start: Weights = NotGiven(asked.editor.name, "theta_0, the aligned model", "--start DIR")
    if asked.start is not None:
        start = ReadAhead(opened("start", asked.start), decoder)
    elif asked.stage == 1:
        start = before
    unaligned = None
    if asked.unaligned is not None:
        unaligned = ReadAhead(opened("unaligned", asked.unaligned, whole=False), decoder)
    calibrates = {"safety_calibration", "task_calibration"} & asked.needs
    processor = processor_of(folders["before"], asked.template) if calibrates else None
    samples = _sources(asked)
    found = Opened(model, processor, decoder, like, before, after, single, start, unaligned, folders, samples, device)
    _check_samples(found)
    return found


def _sources(asked: Adaptation) -> dict[str, list[Sample]]:
    """Read the calibration sources that the method needs."""
    found: dict[str, list[Sample]] = {}
    for need, (option, _, _) in OPTIONS.items():
        if need in asked.needs and need != "unaligned_model":
            source = getattr(asked, option)
            file = rows_file(source)
            name, metadata = (source, {}) if file is None else (ROWS, {"rows_file": str(file)})
            task = load_tasks([name], asked.task_folders(), data_root=asked.data_root, metadata=metadata)[name]
            rows = training_samples(task)
            if need == "safety_calibration":
                found[option] = shuffled(rows, asked.seed, name)
            else:
                found[option] = task_calibration(rows, asked.recipe.task_samples, asked.seed, asked.stage)
    return found


def _check_samples(opened: Opened) -> None:
    """Refuse samples that the model would not see as it is asked in use."""
    for option, found in opened.samples.items():
        sees = tokenizer_of(opened.processor) is not opened.processor
        if sees and not any(sample.images for sample in found):
            raise UserError(
                f"None of the {len(found)} samples of --{option} has an image, and {type(opened.model).__name__} sees"
                " images: expected rows with an `image`, like those that it is asked about."
            )
        check_template(opened.processor, found)
