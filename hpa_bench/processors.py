"""Load a model's processor: its tokenizer, its image processor and its chat template."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hpa_bench.errors import UserError


def load_processor(path: str | Path, chat_template: str | Path | None = None) -> Any:
    """Return the processor of a checkpoint.

    Args:
        path: a folder, or a name on the Hugging Face hub.
        chat_template: a Jinja file that takes the place of the checkpoint's own chat template.

    Raises:
        UserError: the template cannot be read.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.utils import is_torchvision_available

    kind: Any = PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(path)), None)
    if kind is not None and "video_processor" in kind.get_attributes() and not is_torchvision_available():
        processor = _without_videos(kind, path)
    else:
        processor = AutoProcessor.from_pretrained(path)
    if chat_template is not None:
        processor.chat_template = read_chat_template(chat_template)
    return processor


def read_chat_template(path: str | Path) -> str:
    """Return the Jinja text of a chat template's file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The chat template {str(path)!r} cannot be read: {error}.") from None


def _without_videos(kind: Any, path: str | Path) -> Any:
    """Load a processor but for its video half, which needs torchvision and which nothing here uses."""
    from transformers import AutoImageProcessor, AutoTokenizer

    parts: dict[str, Any] = {"image_processor": AutoImageProcessor, "tokenizer": AutoTokenizer}
    names = kind.get_attributes()
    kept = [name for name in names if name in parts]
    images_only: Any = type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda cls: kept)})
    settings, _ = images_only.get_processor_dict(path)
    settings.pop("video_processor", None)
    arguments = [parts[name].from_pretrained(path) if name in parts else None for name in names]
    processor = images_only.from_args_and_dict(arguments, settings)
    # SmolVLM asks for these while it renders its chat template.
    processor.video_processor = SimpleNamespace(num_frames=None, fps=None)
    return processor
