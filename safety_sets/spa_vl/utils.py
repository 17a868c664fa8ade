"""SPA-VL: questions about images with a preferred and a rejected answer, in parquet files (arXiv 2406.12030)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from hpa_bench.data.downloads import folder_of
from hpa_bench.errors import UserError
from hpa_bench.safety_sets.shared import open_image, splits, turn

HOME = "sqrti/SPA-VL on Hugging Face"
FILES = {"train": ("data", "train"), "test": ("test", "harm")}
"""By part: its folder, and what the names of its files start with."""
COLUMNS = {"train": ("question", "chosen"), "test": ("question", "class1", "class2")}


def load(
    part: str, data_root: str | None = None, data_folders: Mapping[str, str] | None = None, **_: Any
) -> dict[str, Any]:
    """Return the training rows with the preferred answers, or the harmful questions of the test.

    Training rows without a question or a preferred answer teach nothing and are left out.

    Args:
        part: train or test.
        data_root: the folder of all downloads.
        data_folders: folders of single downloads; here `spa_vl`.

    Raises:
        UserError: the download is missing, incomplete or not in the published format.
    """
    folder = folder_of("spa_vl", data_root, data_folders, "SPA-VL", HOME)
    return splits(_rows(_files(folder, part), part), part, folder)


def doc_to_image(doc: dict[str, Any]) -> list[Image.Image]:
    """Open the image of a row, which its parquet file holds."""
    name = f"row {doc['row']} in row group {doc['group']} of {doc['file']}"
    cell = _images(doc["file"], Path(doc["file"]).stat().st_mtime_ns, doc["group"])[doc["row"]]
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise UserError(f"The image of {name} is missing: expected its bytes in the column 'image'.")
    return [open_image(content, name)]


def _files(folder: Path, part: str) -> list[Path]:
    """Return the files of a part, all of them: their names say how many there are."""
    below, start = FILES[part]
    files = sorted((folder / below).glob(f"{start}-*.parquet"))
    count = re.search(r"-of-(\d+)\.parquet$", files[0].name) if files else None
    expected = int(count[1]) if count else 1
    if len(files) < expected or not files:
        raise UserError(
            f"{folder / below} has {len(files)} of {expected} files {start}-*.parquet: get the others from {HOME}."
        )
    return files


def _rows(files: Sequence[Path], part: str) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    for path in files:
        try:
            file = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowException as error:
            reason = str(error).split(". ")[0].rstrip(".")
            raise UserError(f"{path} is not a parquet file ({reason}): download it again from {HOME}.") from None
        for name in (*COLUMNS[part], "image"):
            if name not in file.schema_arrow.names:
                raise UserError(f"{path} has no column {name!r}: expected the format of SPA-VL.")
        number = 0
        for group in range(file.num_row_groups):
            for row, record in enumerate(file.read_row_group(group, columns=list(COLUMNS[part])).to_pylist()):
                question, answer = record["question"] or "", record.get("chosen") or ""
                if not question.strip() and part == "test":
                    raise UserError(f"The 'question' of row {number} of {path} is empty: expected a text.")
                if question.strip() and (answer.strip() or part == "test"):
                    yield {
                        "id": f"{path.stem}/{number}",
                        "question": turn(question),
                        "answer": answer,
                        "category": "/".join(filter(None, (record.get("class1"), record.get("class2")))) or None,
                        "file": str(path),
                        "group": group,
                        "row": row,
                    }
                number += 1


@lru_cache(maxsize=4)
def _images(file: str, changed: int, group: int) -> list[Any]:
    """Return the images of a row group as they are stored; neighbouring rows share it.

    Args:
        file: the parquet file.
        changed: when it was last written, which tells it from one that took its place.
        group: the row group.
    """
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(file).read_row_group(group, columns=["image"]).column("image").to_pylist()
