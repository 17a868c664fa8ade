"""Ch3Ef: human-annotated queries about images, by the principles helpful, honest, harmless (arXiv 2403.17830)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpa_bench.data.downloads import folder_of, image_path, is_file, read_json
from hpa_bench.data.texts import text_of
from hpa_bench.safety_sets.shared import expect, field, splits, turn

HOME = "openlamm/Ch3Ef on Hugging Face"


def load(data_root: str | None = None, data_folders: Mapping[str, str] | None = None, **_: Any) -> dict[str, Any]:
    """Return the harmless part of Ch3Ef; the reference answer is the first option, as in its own evaluation.

    Args:
        data_root: the folder of all downloads.
        data_folders: folders of single downloads; here `ch3ef`.

    Raises:
        UserError: the download is missing, incomplete or not in the published format.
    """
    folder = folder_of("ch3ef", data_root, data_folders, "Ch3Ef", HOME)
    return splits(_rows(folder), "test", folder)


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "meta_file" / "Harmless.json"
    items = field(read_json(path), "items", list, f"the content of {path}")
    for number, item in enumerate(items):
        where = f"item {number} of {path}"
        query = field(item, "query", str, where)
        names = item.get("image") or []
        images = [_image(folder, name, where) for name in ([names] if isinstance(names, str) else names)]
        options = expect(item.get("options") or [], list, f"The 'options' of {where}")
        yield {
            "id": text_of(item.get("id", number), f"The 'id' of {where}"),
            "question": turn(query, len(images)),
            "answer": text_of(options[0], f"The first of the 'options' of {where}") if options else "",
            "category": field(item, "source", str, where),
            "images": images,
        }


def _image(folder: Path, name: Any, where: str) -> str:
    # Paths start at the download's folder; the archive of images may have been unpacked into one of its own.
    unpacked = folder / "Harmless_images"
    root = unpacked if isinstance(name, str) and not is_file(folder / name) and is_file(unpacked / name) else folder
    return str(image_path(root, name, where))
