"""XSTest: safe prompts that look unsafe, and their unsafe contrasts; text alone (arXiv 2308.01263)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpa_bench.data.downloads import folder_of
from hpa_bench.errors import UserError, shown
from hpa_bench.safety_sets.shared import read_csv, splits, turn

HOME = "github.com/paul-rottger/xstest"


def load(
    label: str, data_root: str | None = None, data_folders: Mapping[str, str] | None = None, **_: Any
) -> dict[str, Any]:
    """Return the prompts of one label.

    Args:
        label: safe or unsafe.
        data_root: the folder of all downloads.
        data_folders: folders of single downloads; here `xstest`.

    Raises:
        UserError: the download is missing, incomplete or not in the published format.
    """
    folder = folder_of("xstest", data_root, data_folders, "xstest", HOME)
    current, earlier = folder / "xstest_prompts.csv", folder / "xstest_v2_prompts.csv"
    rows = (
        _rows(earlier, "id_v2", label) if earlier.is_file() and not current.is_file() else _rows(current, "id", label)
    )
    return splits(rows, "test", folder)


def _rows(path: Path, key: str, label: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(read_csv(path, (key, "prompt", "type")), 1):
        # The earlier file has no label; the types of unsafe prompts say it too.
        found = "unsafe" if row["type"].startswith("contrast_") else "safe"
        if not row["type"] or row.get("label", found) != found:
            raise UserError(
                f"Row {number} of {path} has the type {shown(row['type'])} and the label {shown(row.get('label'))}:"
                " expected those of the original file."
            )
        if not row["prompt"].strip():
            raise UserError(f"The 'prompt' of row {number} of {path} is empty: expected a text.")
        if label == found:
            yield {"id": row[key], "question": turn(row["prompt"], images=0), "answer": "", "category": row["type"]}
