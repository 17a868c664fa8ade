"""Seals: whatever is lost, cut or altered is noticed, and named."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.results.seals import SEAL, check, check_folder, seal, seal_of

REMEDY = "make it again"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"")
    return tmp_path


def sealed(content: bytes) -> dict[str, object]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def refused(check: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        check()
    message = str(caught.value)
    assert message.endswith(f": {REMEDY}.")
    return message


def test_a_seal_is_of_every_file_below_and_not_of_itself(folder: Path) -> None:
    seal(folder)
    (folder / "sub" / "c.partial").write_text("of a killed process")

    found = seal_of(folder)
    assert list(found.items()) == [("b", sealed(b"")), ("sub/a", sealed(b"abc"))]
    assert json.loads((folder / SEAL).read_text()) == found


def test_a_seal_of_chosen_files(folder: Path) -> None:
    assert seal_of(folder, [folder / "sub" / "a"]) == {"sub/a": sealed(b"abc")}
    assert seal_of(folder, []) == {}


def test_a_folder_as_it_was_passes(folder: Path) -> None:
    seal(folder)
    (folder / "new").write_text("not known to the seal")

    check_folder(folder, REMEDY)


def test_a_folder_without_a_seal_passes(folder: Path) -> None:
    check_folder(folder, REMEDY)
    check_folder(folder / "nowhere", REMEDY)


def test_a_missing_file_is_named(folder: Path) -> None:
    seal(folder)
    (folder / "sub" / "a").unlink()

    message = refused(lambda: check_folder(folder, REMEDY))

    assert message.startswith(f"{folder / 'sub' / 'a'} is missing, which was there when {folder / SEAL} was written")


@pytest.mark.parametrize("content", [b"ab", b"abcd", b""])
def test_a_file_of_another_size_is_named(content: bytes, folder: Path) -> None:
    seal(folder)
    (folder / "sub" / "a").write_bytes(content)

    message = refused(lambda: check_folder(folder, REMEDY))

    assert f"sub/a has {len(content)} bytes and had 3 when {folder / SEAL} was written" in message


def test_a_file_of_the_same_size_that_has_changed_is_named(folder: Path) -> None:
    seal(folder)
    (folder / "sub" / "a").write_bytes(b"abd")

    message = refused(lambda: check_folder(folder, REMEDY))

    assert f"sub/a has changed since it was written (its SHA-256 is not that in {folder / SEAL})" in message


def test_files_that_are_not_asked_for_may_change(folder: Path) -> None:
    seal(folder)
    (folder / "sub" / "a").write_bytes(b"abd")

    check(folder, folder / SEAL, REMEDY, lambda name: name == "b")


def test_a_folder_in_the_place_of_a_file_is_a_missing_file(folder: Path) -> None:
    seal(folder)
    (folder / "b").unlink()
    (folder / "b").mkdir()

    assert "b is missing" in refused(lambda: check_folder(folder, REMEDY))


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"a": 1}', '{"a": {"bytes": 1}}', '{"a": {"bytes": "1", "sha256": ""}}']
)
def test_what_is_no_seal_is_refused(text: str, folder: Path) -> None:
    (folder / SEAL).write_text(text)

    message = refused(lambda: check_folder(folder, REMEDY))

    assert message.startswith(f"{folder / SEAL} is not whole: expected sizes and SHA-256 of files as JSON")


def test_a_mark_holds_a_seal_or_nothing(folder: Path) -> None:
    check(folder, folder / "b", REMEDY)
