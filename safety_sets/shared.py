"""What the safety sets on users' downloads share: checked fields, CSV files, folders of images, unique ids."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from hpa_bench.data import images
from hpa_bench.data.texts import check_text
from hpa_bench.errors import UserError, shown

T = TypeVar("T")
NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false"}


def expect(value: Any, kind: type[T], what: str) -> T:
    """Return a value of a download that must be of a type.

    Raises:
        UserError: it is missing or of another type; `what` says which value of which row.
    """
    if not isinstance(value, kind):
        found = "missing" if value is None else f"of type {type(value).__name__}"
        raise UserError(f"{what} is {found}: expected {NAMES[kind]}.")
    return value


def field(record: Any, key: str, kind: type[T], where: str) -> T:
    """Return a field of a record that must be there and of a type; `where` names the record."""
    return expect(expect(record, dict, where).get(key), kind, f"The {key!r} of {where}")


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header.

    Raises:
        UserError: the file or one of the columns is missing, or a row is cut short.
    """
    if not path.is_file():
        raise UserError(f"The file {path} is missing: the download is incomplete, or its layout is another.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path}:1 has no column {missing[0]!r}: expected {', '.join(columns)}; is it the original file?"
                )
            rows = []
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise UserError(f"{path}:{reader.line_num} has too few columns: the download is incomplete.")
                rows.append(row)
        except UnicodeDecodeError as error:
            raise UserError(f"The file {path} is not UTF-8 text (byte {error.start}): download it again.") from None
    return rows


def subfolder(folder: Path, *names: str) -> Path:
    """Return the first of some folders below a download that exists; the last is the one to name where none does.

    Raises:
        UserError: there is none, which is most often an archive that was not unpacked.
    """
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    path = folder / names[-1]
    archive = path.with_name(f"{path.name}.zip")
    todo = f"unpack {archive} there" if archive.is_file() else "the download is incomplete, or its layout is another"
    raise UserError(f"The folder {path} is missing: {todo}.")


def turn(question: str, images: int = 1) -> str:
    """Return the user's turn: one `<image>` a line for each image, then the question, which holds none of its own."""
    return "<image>\n" * images + question.replace("<image>", "").strip()


def splits(rows: Iterable[dict[str, Any]], split: str, source: Path) -> dict[str, Any]:
    """Return a data set of one split; an id that comes again gets a number, in the order of the download.

    Raises:
        UserError: there are no rows, or a data set cannot hold a text of one.
    """
    from datasets import Dataset

    seen: Counter[str] = Counter()
    unique = []
    for row in rows:
        _check(row, source)
        seen[row["id"]] += 1
        count = seen[row["id"]]
        unique.append(row if count == 1 else {**row, "id": f"{row['id']}#{count}"})
    if not unique:
        raise UserError(f"The download in {source} holds no rows of this set: it is incomplete, or another version.")
    return {split: Dataset.from_list(unique)}


def _check(row: dict[str, Any], source: Path) -> None:
    """Check the texts of a row before a data set takes them, which says less of what it cannot hold."""
    for key, value in row.items():
        if isinstance(value, str):
            check_text(value, f"The {key} of sample {shown(row['id'])} in {source}")


def doc_to_image(doc: dict[str, Any]) -> list[Image.Image]:
    """Open the images of a row."""
    return [images.open_image(Path(name)) for name in doc["images"]]


def open_image(content: bytes, name: str) -> Image.Image:
    """Open an image whose bytes stand in a table; it is decoded when it is first used."""
    return images.open_stream(io.BytesIO(content), name)
