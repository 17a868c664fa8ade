"""Bad downloads: one sentence that says what is wrong, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpa_bench.data.tasks import check_task, load_tasks
from hpa_bench.errors import UserError
from tests.support.safety_downloads import WRITERS, write_figstep, write_image, write_vlguard

SETS = Path(__file__).parents[2] / "safety_sets"
TASKS = {
    "vlguard_unsafes": "VLGuard",
    "ch3ef": "Ch3Ef",
    "spa_vl_test": "SPA-VL",
    "figstep": "FigStep",
    "mm_safetybench": "MM-SafetyBench",
    "xstest_safe": "xstest",
}


def refused(name: str, root: Path | None) -> str:
    with pytest.raises(UserError) as caught:
        load_tasks([name], [SETS], data_root=None if root is None else str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "folder"), TASKS.items())
def test_a_wrong_data_root(tmp_path: Path, name: str, folder: str) -> None:
    assert f"{tmp_path / folder} of the download" in refused(name, tmp_path)
    assert f"FOLDER/{folder} (from " in refused(name, None)


@pytest.mark.parametrize(("name", "folder"), TASKS.items())
def test_an_empty_folder(tmp_path: Path, name: str, folder: str) -> None:
    (tmp_path / folder).mkdir()
    message = refused(name, tmp_path)

    assert str(tmp_path / folder) in message and ("missing" in message or "has 0 of 1 files" in message)


def test_a_trailing_comma(tmp_path: Path) -> None:
    path = write_vlguard(tmp_path / "VLGuard") / "test.json"
    path.write_text(path.read_text().rstrip()[:-1] + ",\n]")
    last = len(path.read_text().splitlines())
    message = refused("vlguard_unsafes", tmp_path)

    assert f"{path}:{last - 1}:" in message or f"{path}:{last}:" in message
    assert "a comma too many before the closing bracket" in message


def test_an_archive_that_was_not_unpacked(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "VLGuard")
    (folder / "test").rename(folder / "elsewhere")
    (folder / "test.zip").touch()

    assert f"The folder {folder / 'test'} is missing: unpack {folder / 'test.zip'}" in refused(
        "vlguard_unsafes", tmp_path
    )


def missing_vlguard(root: Path) -> Path:
    return root / "VLGuard" / "test" / "bad_ads" / "1.png"


def missing_ch3ef(root: Path) -> Path:
    return root / "Ch3Ef" / "Harmless_images" / "Insult_1.jpg"


def missing_figstep(root: Path) -> Path:
    return root / "FigStep" / "data" / "images" / "SafeBench" / "query_ForbidQI_2_2_6.png"


def missing_mm_safetybench(root: Path) -> Path:
    return root / "MM-SafetyBench" / "data" / "imgs" / "02-HateSpeech" / "TYPO" / "10.jpg"


@pytest.mark.parametrize(
    ("name", "image", "row"),
    [
        ("vlguard_unsafes", missing_vlguard, "record 1 of"),
        ("ch3ef", missing_ch3ef, "item 1 of"),
        ("figstep", missing_figstep, "row 4 of"),
        ("mm_safetybench", missing_mm_safetybench, "question 10 of"),
    ],
)
def test_a_missing_image(tmp_path: Path, name: str, image: Callable[[Path], Path], row: str) -> None:
    WRITERS[TASKS[name]](tmp_path / TASKS[name])
    image(tmp_path).unlink()
    message = refused(name, tmp_path)

    assert f"The image {image(tmp_path)} of {row}" in message and "is missing" in message


def test_an_image_that_is_none_is_found_when_rows_are_checked(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "VLGuard")
    (folder / "test" / "bad_ads" / "1.png").write_bytes(b"<html>not found</html>")
    task = load_tasks(["vlguard_unsafes"], [SETS], data_root=str(tmp_path))["vlguard_unsafes"]

    with pytest.raises(UserError, match=r"sample 'test-u1' .* cannot be decoded: .*/test/bad_ads/1\.png"):
        check_task(task, "test")


def test_an_image_outside_the_download(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "VLGuard")
    write_image(tmp_path / "secret.png")
    records = json.loads((folder / "test.json").read_text())
    records[2]["image"] = "../../secret.png"
    (folder / "test.json").write_text(json.dumps(records))

    assert "'../../secret.png' of record 2 of" in refused("vlguard_unsafes", tmp_path)


def test_a_record_of_another_format(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "VLGuard")
    records = json.loads((folder / "test.json").read_text())
    del records[0]["safe"]
    (folder / "test.json").write_text(json.dumps(records))

    assert "The 'safe' of record 0 of" in (message := refused("vlguard_unsafes", tmp_path))
    assert "is missing: expected true or false." in message


def test_a_pair_that_is_not_there(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "VLGuard")
    records = json.loads((folder / "test.json").read_text())
    records[3]["instr-resp"].pop()
    (folder / "test.json").write_text(json.dumps(records))

    assert "The 'instr-resp' of record 3 of" in (message := refused("vlguard_safe_unsafes", tmp_path))
    assert "has no 'unsafe_instruction'" in message


def test_a_csv_that_is_cut_short(tmp_path: Path) -> None:
    path = write_figstep(tmp_path / "FigStep") / "data" / "question" / "safebench.csv"
    path.write_text(path.read_text().splitlines()[0] + "\nForbidQI,1,1\n")

    assert f"{path}:2 has too few columns" in refused("figstep", tmp_path)


def test_a_csv_without_a_column(tmp_path: Path) -> None:
    path = tmp_path / "xstest" / "xstest_prompts.csv"
    path.parent.mkdir()
    path.write_text("id,text\n1,how ?\n")

    assert f"{path}:1 has no column 'prompt'" in refused("xstest_safe", tmp_path)


def test_parquet_files_that_are_missing_or_cut_short(tmp_path: Path) -> None:
    folder = WRITERS["SPA-VL"](tmp_path / "SPA-VL")
    (folder / "data" / "train-00001-of-00002.parquet").unlink()
    test = folder / "test" / "harm-00000-of-00001.parquet"
    test.write_bytes(test.read_bytes()[:100])

    assert f"{folder / 'data'} has 1 of 2 files train-*.parquet" in refused("spa_vl_alignment", tmp_path)
    assert f"{test} is not a parquet file" in refused("spa_vl_test", tmp_path)


def test_a_repeated_id_stays_unique(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "VLGuard")
    records = json.loads((folder / "train.json").read_text())
    records[1]["id"] = records[0]["id"]
    (folder / "train.json").write_text(json.dumps(records))
    task = load_tasks(["vlguard_calibration"], [SETS], data_root=str(tmp_path))["vlguard_calibration"]

    assert [sample.id for sample in check_task(task, "training")] == ["train-u0", "train-u0#2", "train-u2"]
