"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import (
    PARTIAL,
    PUT_BACK,
    atomic,
    move_whole,
    read_json,
    read_jsonl,
    read_object,
    remove,
    write_json,
    write_jsonl,
)

LINE_ENDS = "a\u2028b\u2029c\u0085d\x0be\x0cf\r\ng\rh\ni"
"""Every end of a line that `str.splitlines` knows."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"

    with atomic(target) as partial:
        partial.write_text("whole")
        assert partial.parent == target.parent and not target.exists()

    assert target.read_text() == "whole" and names(target.parent) == ["a.txt"]


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for name in ("old", "new"):
        with atomic(target) as partial:
            (partial / "sub").mkdir(parents=True)
            (partial / "sub" / name).write_text(name)

    assert names(tmp_path) == ["a"] and names(target / "sub") == ["new"]


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")

    with atomic(target) as partial:
        partial.mkdir()

    assert target.is_dir()


def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made" / "sub").mkdir(parents=True)
    (tmp_path / "made" / "sub" / "file").write_text("whole")
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def syncing(opened: int) -> None:
        done.append(Path(f"/proc/self/fd/{opened}").readlink().name)
        sync(opened)

    def renaming(path: Path, target: Path) -> Path:
        done.append("renamed")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", renaming)
    move_whole(tmp_path / "made", tmp_path / "a")

    assert sorted(done[:3]) == ["file", "made", "sub"] and done[3:] == ["renamed", tmp_path.name]
    assert (tmp_path / "a" / "sub" / "file").read_text() == "whole"


@pytest.mark.parametrize("folder", [False, True])
def test_after_a_failure_nothing_has_the_final_name(folder: bool, tmp_path: Path) -> None:
    target = tmp_path / "a"

    with pytest.raises(RuntimeError, match="half way"), atomic(target) as partial:
        if folder:
            partial.mkdir()
        (partial / "x" if folder else partial).write_text("half")
        raise RuntimeError("half way")

    assert not target.exists()


def test_after_a_failure_what_was_there_is_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")

    with pytest.raises(RuntimeError), atomic(target) as partial:
        partial.write_text("half")
        raise RuntimeError

    assert target.read_text() == "old"


def test_what_a_failure_left_is_no_part_of_the_next_attempt(tmp_path: Path) -> None:
    left = tmp_path / f"a{PARTIAL}"
    left.mkdir()
    (left / "stale").write_text("half")

    with atomic(tmp_path / "a") as partial:
        assert partial == left and not partial.exists()
        partial.mkdir()

    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == []


def test_json_is_read_back_and_readable(tmp_path: Path) -> None:
    value = {"a": [1, 0.1, None, True], "ü": LINE_ENDS}

    write_json(tmp_path / "a.json", value)

    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_bytes().decode()
    assert text.startswith('{\n "a": [\n  1,') and text.endswith("}\n") and "ü" in text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_refused(number: float, tmp_path: Path) -> None:
    for write in (write_json, write_jsonl):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(tmp_path / "a", [{"x": number}])

    assert not (tmp_path / "a").exists()


def test_rows_may_hold_any_line_end(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": LINE_ENDS}, {"id": 2, "text": ""}, {}]

    write_jsonl(tmp_path / "a", rows)

    assert read_jsonl(tmp_path / "a") == rows
    assert (tmp_path / "a").read_bytes().count(b"\n") == 3


def test_no_rows(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a", [])

    assert (tmp_path / "a").read_bytes() == b"" and read_jsonl(tmp_path / "a") == []


def test_a_last_line_needs_no_end_and_a_torn_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"a": 1}\n\n{"a": 2}')
    assert read_jsonl(tmp_path / "a") == [{"a": 1}, {"a": 2}]

    (tmp_path / "a").write_text('{"a": 1}\n{"a": ')
    with pytest.raises(UserError, match="a is not whole: it is no JSON"):
        read_jsonl(tmp_path / "a")


def test_rows_that_end_in_an_exception_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise KeyError("a")

    with pytest.raises(KeyError):
        write_jsonl(tmp_path / "a", rows())

    assert not (tmp_path / "a").exists()


def test_remove_takes_files_folders_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "sub").mkdir(parents=True)

    for name in ("file", "folder", "nothing"):
        remove(tmp_path / name)

    assert names(tmp_path) == []


@pytest.mark.parametrize("read", [read_json, read_object, read_jsonl])
@pytest.mark.parametrize("content", [b'{"id": ', b"\xff\xfe", b"[" * 100_000, b"[1]\n", None])
def test_a_torn_file_is_one_sentence(content: bytes | None, read: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)

    if (read, content) == (read_json, b"[1]\n"):
        assert read(path) == [1]
        return
    with pytest.raises(UserError) as caught:
        read(path, **({"keys": ["id"]} if read is read_jsonl else {}))
    assert str(caught.value).startswith(str(path)) and str(caught.value).endswith(f"{PUT_BACK}.")


def test_rows_have_the_keys_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"id": 1, "verdict": "a"}, {"id": 2}])

    assert len(read_jsonl(path, ["id"])) == 2
    with pytest.raises(UserError, match=r"rows.jsonl has a line without 'verdict': delete it."):
        read_jsonl(path, ["id", "verdict"], "delete it")
