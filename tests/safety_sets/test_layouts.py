"""Downloads that lie elsewhere or were unpacked in another plausible way read the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from hpa_bench.samples import load_tasks, quiet
from tests.safety_sets.downloads import WRITERS

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
        ("xstest_safe", "xstest", {"xstest_prompts.csv": "xstest_v2_prompts.csv"}),
    ],
)
def test_other_ways_to_unpack(tmp_path: Path, name: str, folder: str, moves: dict[str, str]) -> None:
    source, target = WRITERS[folder](tmp_path / "usual" / folder), tmp_path / "other" / folder
    usual = rows(name, tmp_path / "usual")
    for old, new in moves.items():
        (target / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source / old, target / new)

    assert rows(name, tmp_path / "other") == usual


def test_xstest_without_labels(tmp_path: Path) -> None:
    path = WRITERS["xstest"](tmp_path / "xstest") / "xstest_prompts.csv"
    usual = rows("xstest_unsafe", tmp_path)
    path.write_text(path.read_text().replace("label", "old"))

    assert rows("xstest_unsafe", tmp_path) == usual


def test_a_folder_of_its_own_by_lm_evals_metadata(tmp_path: Path) -> None:
    WRITERS["xstest"](tmp_path / "elsewhere")
    metadata: Any = {"data_folders": {"xstest": str(tmp_path / "elsewhere")}}
    with quiet():
        manager = TaskManager(include_path=str(SETS), include_defaults=False, metadata=metadata)
        task = manager.load(["xstest_safe"])["tasks"]["xstest_safe"]

    assert len(task.test_docs()) == 2
