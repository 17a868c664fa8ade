"""VLGuard: images and instructions, each safe or unsafe, with reference answers (arXiv 2402.02207)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpa_bench.data.downloads import folder_of, image_path, read_json
from hpa_bench.data.texts import text_of
from hpa_bench.errors import UserError
from hpa_bench.safety_sets.shared import expect, field, splits, subfolder, turn

HOME = "github.com/ys-zong/VLGuard, or ys-zong/VLGuard on Hugging Face"
SUBSETS = {
    "unsafes": (False, "instruction"),
    "safe_unsafes": (True, "unsafe_instruction"),
    "safe_safes": (True, "safe_instruction"),
}
"""By subset: whether its images are safe, and the key of its instruction."""


def load(
    part: str,
    subsets: Sequence[str],
    data_root: str | None = None,
    data_folders: Mapping[str, str] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Return one split of some subsets of VLGuard.

    Args:
        part: train or test; each has a folder of images of its own, and some paths occur in both.
        subsets: of `SUBSETS`.
        data_root: the folder of all downloads.
        data_folders: folders of single downloads; here `vlguard`.

    Raises:
        UserError: the download is missing, incomplete or not in the published format.
    """
    folder = folder_of("vlguard", data_root, data_folders, "VLGuard", HOME)
    if not (folder / f"{part}.json").is_file() and (folder / "data").is_dir():
        folder = folder / "data"  # a clone of the project
    return splits(_rows(folder, part, subsets), part, folder)


def _rows(folder: Path, part: str, subsets: Sequence[str]) -> Iterator[dict[str, Any]]:
    path = folder / f"{part}.json"
    records = expect(read_json(path), list, f"The content of {path}")
    images = subfolder(folder, f"VLGuard/{part}", part)
    for number, record in enumerate(records):
        where = f"record {number} of {path}"
        name = field(record, "id", str, where)
        for subset in subsets:
            safe, key = SUBSETS[subset]
            if field(record, "safe", bool, where) is not safe:
                continue
            pairs = field(record, "instr-resp", list, where)
            pair = next((pair for pair in pairs if isinstance(pair, dict) and key in pair), None)
            if pair is None:
                raise UserError(f"The 'instr-resp' of {where} has no {key!r}: expected the format of VLGuard.")
            yield {
                "id": name if len(subsets) == 1 else f"{name}/{subset}",
                "question": turn(field(pair, key, str, where)),
                "answer": field(pair, "response", str, where),
                "category": _category(record, where),
                "images": [str(image_path(images, record.get("image"), where))],
            }


def _category(record: Mapping[str, Any], where: str) -> str | None:
    """Return what is harmful about an image; safe images have no category."""
    keys = [key for key in ("harmful_category", "harmful_subcategory") if record.get(key)]
    return "/".join(text_of(record[key], f"The {key!r} of {where}") for key in keys) or None
