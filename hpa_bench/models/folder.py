"""The files of a checkpoint's folder, each looked at before transformers reads it, which says less of what is wrong."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from hpa_bench.errors import UserError
from hpa_bench.files import read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
READ = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
)
"""The JSON that transformers reads where it is there."""
REMEDY = "save or fetch the model again, whole"


def check_files(folder: Path) -> None:
    """Refuse a folder with a file that is empty, cut, or no file of a checkpoint.

    Raises:
        UserError: the message names the file.
    """
    for name in READ:
        if (folder / name).exists():
            read_object(folder / name, REMEDY)
    if (folder / INDEX).exists() or (folder / SINGLE).exists():
        stored_files(folder)


def stored_files(folder: Path) -> dict[str, str]:
    """Return the file of each tensor of a checkpoint folder, by the name in the file.

    Raises:
        UserError: there are no safetensors, or they are cut, or not what their index says.
    """
    if not (folder / INDEX).exists():
        if not (folder / SINGLE).exists():
            raise UserError(f"No checkpoint in {folder}: expected {SINGLE} or {INDEX}.")
        return dict.fromkeys(_names(folder / SINGLE), SINGLE)
    places = read_object(folder / INDEX, REMEDY).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"{folder / INDEX} is not whole: expected a weight_map from tensors to files: {REMEDY}.")
    for file in sorted(set(places.values())):
        names = _names(folder / file)
        lacking = next((name for name in places if places[name] == file and name not in names), None)
        if lacking is not None:
            raise UserError(f"{folder / file} lacks {lacking!r}, which {INDEX} says is in it: {REMEDY}.")
    return places


def check_file(file: Path) -> None:
    """Refuse a safetensors file that is missing or cut.

    Raises:
        UserError: the message names the file.
    """
    _names(file)


def _names(file: Path) -> list[str]:
    """Return the names of a file's tensors; that its size is that of its tensors is seen as it is opened."""
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is not whole ({error})"
        raise UserError(f"{file} {reason}: {REMEDY}.") from None
