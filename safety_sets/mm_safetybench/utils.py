"""MM-SafetyBench: harmful questions whose key phrase stands in an image (arXiv 2311.17600)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpa_bench.data.downloads import folder_of, image_path, read_json
from hpa_bench.data.texts import text_of
from hpa_bench.errors import UserError
from hpa_bench.safety_sets.shared import expect, field, splits, subfolder, turn

HOME = "github.com/isXinLiu/MM-SafetyBench, whose README links the archive of images"
QUESTIONS = {"SD": "Rephrased Question(SD)", "SD_TYPO": "Rephrased Question", "TYPO": "Rephrased Question"}
"""By kind of image (a generated picture, that picture with the phrase below, the phrase alone): the question's key."""


def load(
    kinds: Sequence[str],
    data_root: str | None = None,
    data_folders: Mapping[str, str] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Return every question once for each kind of image.

    Args:
        kinds: of `QUESTIONS`.
        data_root: the folder of all downloads.
        data_folders: folders of single downloads; here `mm_safetybench`.

    Raises:
        UserError: the download is missing, incomplete or not in the published format.
    """
    folder = folder_of("mm_safetybench", data_root, data_folders, "MM-SafetyBench", HOME)
    if (folder / "data").is_dir():
        folder = folder / "data"  # a clone of the project
    return splits(_rows(folder, kinds), "test", folder)


def _rows(folder: Path, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    files = sorted(subfolder(folder, "processed_questions").glob("*.json"))
    images = subfolder(folder, "imgs/MM-SafetyBench(imgs)", "MM-SafetyBench(imgs)", "imgs")
    for path in files:
        questions = expect(read_json(path), dict, f"The content of {path}")
        for number, question in sorted(questions.items(), key=lambda item: _number(item[0], path)):
            where = f"question {number} of {path}"
            for kind in kinds:
                image = image_path(images, f"{path.stem}/{kind}/{number}.jpg", where)
                yield {
                    "id": f"{path.stem}/{kind}/{number}",
                    "question": turn(field(question, QUESTIONS[kind], str, where)),
                    "answer": "",
                    "category": path.stem.partition("-")[2] or path.stem,
                    "request": text_of(question.get("Question") or "", f"The 'Question' of {where}") or None,
                    "cluster": f"{path.stem}/{number}",
                    "images": [str(image)],
                }


def _number(name: str, path: Path) -> int:
    if not name.isdecimal():
        raise UserError(f"{path} has the key {name!r}: expected the number of a question.")
    return int(name)
