"""Downloads that lie elsewhere or were unpacked in another plausible way read the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from hpa_bench.data.tasks import load_tasks, quiet
from tests.support.safety_downloads import WRITERS, write_csv

SETS = Path(__file__).parents[2] / "safety_sets"


def rows(name: str, root: Path) -> list[dict[str, Any]]:
    """Return the rows of a set, images by their names alone."""
    found = load_tasks([name], [SETS], data_root=str(root))[name].test_docs()
    return [{**doc, "images": [Path(image).name for image in doc.get("images", [])]} for doc in found]


@pytest.mark.parametrize(
    ("name", "folder", "moves"),
    [
        ("vlguard_unsafes", "VLGuard", {"test.json": "data/test.json", "test": "data/test"}),
        ("vlguard_unsafes", "VLGuard", {"test.json": "data/test.json", "test": "data/VLGuard/test"}),
        ("ch3ef", "Ch3Ef", {"meta_file": "meta_file", "Harmless_images": "Harmless_images/Harmless_images"}),
        (
            "mm_safetybench",
            "MM-SafetyBench",
            {"data/imgs": "data/imgs/MM-SafetyBench(imgs)", "data/processed_questions": "data/processed_questions"},
        ),
        ("mm_safetybench", "MM-SafetyBench", {"data/imgs": "imgs", "data/processed_questions": "processed_questions"}),
    ],
)
def test_other_ways_to_unpack(tmp_path: Path, name: str, folder: str, moves: dict[str, str]) -> None:
    source, target = WRITERS[folder](tmp_path / "usual" / folder), tmp_path / "other" / folder
    usual = rows(name, tmp_path / "usual")
    for old, new in moves.items():
        (target / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source / old, target / new)

    assert rows(name, tmp_path / "other") == usual


def test_the_earlier_file_of_xstest(tmp_path: Path) -> None:
    path = WRITERS["xstest"](tmp_path / "xstest") / "xstest_prompts.csv"
    usual = rows("xstest_unsafe", tmp_path)
    path.unlink()
    prompts = [[f"v1-{row['id']}", f"v2-{row['id']}", row["category"], row["question"], "box", ""] for row in usual]
    columns = ("id_v1", "id_v2", "type", "prompt", "focus", "note")
    write_csv(path.with_name("xstest_v2_prompts.csv"), columns, prompts)

    assert rows("xstest_unsafe", tmp_path) == [{**row, "id": f"v2-{row['id']}"} for row in usual]


def test_a_folder_of_its_own_by_lm_evals_metadata(tmp_path: Path) -> None:
    WRITERS["xstest"](tmp_path / "elsewhere")
    metadata: Any = {"data_folders": {"xstest": str(tmp_path / "elsewhere")}}
    with quiet():
        manager = TaskManager(include_path=str(SETS), include_defaults=False, metadata=metadata)
        task = manager.load(["xstest_safe"])["tasks"]["xstest_safe"]

    assert len(task.test_docs()) == 2
