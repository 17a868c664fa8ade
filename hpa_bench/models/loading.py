"""Load a checkpoint: from a folder or the hub, the model and its processor (tokenizer, images, chat template)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import is_torchvision_available, logging

from hpa_bench.errors import UserError
from hpa_bench.machine.device import explained_shortage
from hpa_bench.models.config import BESIDE_WEIGHTS, local_folder, read_chat_template
from hpa_bench.models.folder import INDEX, REMEDY, SINGLE, check_files

EXPECTED = ("config.json", "tokenizer.json")
"""What nearly every checkpoint has; of one that cannot be loaded it is said which is not there."""
NO_CODE: Any = {"trust_remote_code": False}
"""For transformers: run no Python file of a model's folder, and do not ask whether to."""


def load_processor(path: str | Path, chat_template: str | Path | None = None) -> Any:
    """Return the processor of a checkpoint.

    Args:
        path: a folder, or a name on the Hugging Face hub.
        chat_template: a Jinja file that takes the place of the checkpoint's own chat template.

    Raises:
        UserError: the template cannot be read.
    """
    kind: Any = PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(path, **NO_CODE)), None)
    if kind is not None and "video_processor" in kind.get_attributes() and not is_torchvision_available():
        processor = _without_videos(kind, path)
    else:
        processor = AutoProcessor.from_pretrained(path, **NO_CODE)
    if chat_template is not None:
        processor.chat_template = read_chat_template(chat_template)
    return processor


def _without_videos(kind: Any, path: str | Path) -> Any:
    """Load a processor but for its video half, which needs torchvision and which nothing here uses."""
    parts: dict[str, Any] = {"image_processor": AutoImageProcessor, "tokenizer": AutoTokenizer}
    names = kind.get_attributes()
    kept = [name for name in names if name in parts]
    images_only: Any = type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda cls: kept)})
    settings, _ = images_only.get_processor_dict(path)
    settings.pop("video_processor", None)
    arguments = [parts[name].from_pretrained(path, **NO_CODE) if name in parts else None for name in names]
    processor = images_only.from_args_and_dict(arguments, settings)
    # SmolVLM asks for these while it renders its chat template.
    processor.video_processor = SimpleNamespace(num_frames=None, fps=None)
    return processor


def checkpoint_folder(name: str, weights: Sequence[str] = ("*.safetensors",)) -> Path:
    """Return the folder of a checkpoint: a path, or a name on the Hugging Face hub, fetched if it is not here yet.

    Args:
        name: the path or the name.
        weights: patterns of the files of weights to fetch.

    Raises:
        UserError: there is no such folder, and no such name on the hub or no way to get at it.
    """
    if (folder := local_folder(name)) is not None:
        return folder
    try:
        return Path(snapshot_download(name, allow_patterns=[*weights, *BESIDE_WEIGHTS]))
    except GatedRepoError:
        reason = "its owner must grant you access first: ask for it on its page, then run `hf auth login`"
    except (RepositoryNotFoundError, HFValidationError):
        reason = "there is no such public model (for a private one, run `hf auth login`)"
    except LocalEntryNotFoundError:
        reason = "it is not in the local cache, and the hub is out of reach or switched off (HF_HUB_OFFLINE)"
    except HfHubHTTPError as error:
        reason = f"the hub answers {' '.join(str(error).split())}"
    raise UserError(
        f"The model {name!r} is no folder here and cannot be had from the Hugging Face hub: {reason}; give a folder, or"
        " the name of a model as on huggingface.co."
    )


def load_model(
    path: str | Path,
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
    chat_template: str | Path | None = None,
) -> tuple[Any, Any]:
    """Return `(model, processor)` of a checkpoint, the model in eval mode.

    The processor of a causal language model, which reads text alone, is its tokenizer.

    Args:
        path: a folder, or a name on the Hugging Face hub.
        device: a torch device.
        dtype: a torch dtype or its name.
        chat_template: a Jinja file that takes the place of the checkpoint's own chat template.

    Raises:
        UserError: there is no such folder or hub name, or it holds no such checkpoint, or the template cannot be read,
            or the model does not fit the GPU.
    """
    folder = checkpoint_folder(str(path))
    check_files(folder)
    with quiet():
        try:
            sees = type(AutoConfig.from_pretrained(folder, **NO_CODE)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            processor = load_processor(folder, chat_template)
            kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
            # A tensor of another shape is told below, by its name.
            options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True, **NO_CODE}
            model, found = kind.from_pretrained(folder, ignore_mismatched_sizes=True, **options)
        except UserError:
            raise
        # Transformers raises whatever it stumbles over, and its tokenizers bare Exceptions.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            weights = () if any((folder / name).exists() for name in (SINGLE, INDEX)) else (SINGLE, INDEX)
            absent = [name for name in (*EXPECTED, *weights) if not (folder / name).exists()]
            absent_ones = f"; it has no {' and no '.join(absent)}" if absent else ""
            raise UserError(
                f"{str(path)!r} is no checkpoint of an image-text-to-text model, nor of a causal language model:"
                f" expected config.json, safetensors and a processor (processor_config.json or"
                f" preprocessor_config.json, tokenizer.json) that transformers can load ({reason}){absent_ones}."
            ) from error
    _check_whole(str(path), model, found)
    with explained_shortage(f"loading {folder}"):
        return model.to(device).eval(), processor  # type: ignore[arg-type]


def _check_whole(path: str, model: Any, found: Mapping[str, Any]) -> None:
    """Refuse weights that are not all there, or not of the model's shapes: transformers fills them at random."""
    if found["missing_keys"]:  # What is tied to another parameter is none of them.
        lacking = sorted(found["missing_keys"])
        raise UserError(
            f"The checkpoint {path!r} lacks {len(lacking)} of the tensors of {type(model).__name__}, such as"
            f" {lacking[0]!r}, in its safetensors"
            f" ({SINGLE}), as its config.json describes it: they would be filled at random; {REMEDY}."
        )
    if found["mismatched_keys"]:
        name, stored, expected = min(found["mismatched_keys"])
        raise UserError(
            f"The checkpoint {path!r} has {name!r} of shape {list(stored)} in its safetensors ({SINGLE}), and"
            f" by its config.json {list(expected)}: {REMEDY}."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and the torchvision hints of loading."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
