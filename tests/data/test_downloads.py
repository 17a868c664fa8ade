from pathlib import Path

import pytest

from hpa_bench.data.downloads import folder_of, image_path, read_json
from hpa_bench.errors import MissingImage, UserError


def where(tmp_path: Path, data_root: str | None = None, **data_folders: str) -> Path:
    return folder_of("boxes", data_root, data_folders, "Boxes", "the box project")


def test_a_download_lies_below_the_data_root_or_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "Boxes").mkdir()

    assert where(tmp_path, str(tmp_path)) == tmp_path / "Boxes"
    assert where(tmp_path, "/nowhere", boxes=str(tmp_path)) == tmp_path


def test_a_wrong_data_root_says_where_to_get_the_download(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder .*/Boxes of the download 'boxes' does not exist: .* the box project"):
        where(tmp_path, str(tmp_path))
    with pytest.raises(UserError, match=r"--data-root FOLDER, with 'boxes' in FOLDER/Boxes \(from the box project\)"):
        where(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n {"a": 1},\n]', r"rows\.json:\d:\d+ is not valid JSON .* a comma too many before the closing bracket"),
        ('[\n {"a": 1,}\n]', r"rows\.json:2:\d+ is not valid JSON .* a comma too many before the closing bracket"),
        ('[\n {"a": 1},\n {"a"', r"rows\.json:3:\d+ .* the file ends early"),
        ('[\n {"a": 1}\n {"a": 2}\n]', r"rows\.json:3:2 .* correct it there"),
        ("version https://git-lfs.github.com/spec/v1\n", r"rows\.json:1:1 .* run `git lfs pull`"),
    ],
)
def test_json_errors_name_the_place_and_the_cause(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)

    with pytest.raises(UserError, match=message):
        read_json(path)


def test_json_that_is_missing_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "image.json").write_bytes(b"\x89PNG")

    with pytest.raises(UserError, match=r"none\.json is missing"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"image\.json is not UTF-8 text \(byte 0\)"):
        read_json(tmp_path / "image.json")


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[1]", encoding="utf-8-sig")

    assert read_json(tmp_path / "rows.json") == [1]


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.png", "a/../../secret.png", ".."])
def test_no_image_leaves_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.png").touch()

    with pytest.raises(UserError, match="of row 3 leaves the folder"):
        image_path(tmp_path / "images", name, "row 3")


def test_no_link_leaves_the_folder_of_its_image(tmp_path: Path) -> None:
    images, secret = tmp_path / "images", tmp_path / "secret.png"
    images.mkdir()
    secret.touch()
    (images / "1.png").symlink_to(secret)
    (images / "up").symlink_to(tmp_path)
    (images / "2.png").touch()
    (images / "3.png").symlink_to("2.png")
    (tmp_path / "linked").symlink_to(images)

    for name in ("1.png", "up/secret.png"):
        with pytest.raises(
            UserError, match=r"of row 3 is a link out of the folder .*images, to .*secret\.png: expected"
        ):
            image_path(images, name, "row 3")
    for folder in (images, tmp_path / "linked"):
        assert image_path(folder, "3.png", "row 3").samefile(images / "2.png")


def test_links_inside_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "0123"
    (snapshot / "images").mkdir(parents=True)
    (tmp_path / "datasets--a--b" / "blobs").mkdir()
    (tmp_path / "datasets--a--b" / "blobs" / "4567").touch()
    (tmp_path / "other").touch()
    (snapshot / "images" / "1.png").symlink_to("../../../blobs/4567")
    (snapshot / "images" / "2.png").symlink_to("../../../../other")

    for root, folder in ((snapshot, "images/"), (snapshot / "images", "")):
        assert image_path(root, f"{folder}1.png", "row 3").is_file()
        with pytest.raises(UserError, match="is a link out of the folder"):
            image_path(root, f"{folder}2.png", "row 3")


@pytest.mark.parametrize("name", ["a\ud800.png", "a\0.png", "a" * 5000, "a/" * 2_000_000, ["a.png"], None, 3])
def test_what_can_be_no_path_is_named_in_short(tmp_path: Path, name: object) -> None:
    with pytest.raises(UserError, match=r"^The image of row 3 is .*: expected a path relative to ") as caught:
        image_path(tmp_path, name, "row 3")  # type: ignore[arg-type]
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_a_name_that_the_file_system_refuses_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingImage, match="of row 3 is missing"):
        image_path(tmp_path, "a" * 300, "row 3")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_json_that_no_parser_takes(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)

    with pytest.raises(UserError, match=r"rows\.json is no JSON that can be read"):
        read_json(tmp_path / "rows.json")


@pytest.mark.parametrize("name", [".", "a/..", "a"])
def test_a_folder_is_no_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()

    with pytest.raises(MissingImage, match="of row 3 is missing"):
        image_path(tmp_path, name, "row 3")


def test_images_are_found_or_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()

    assert image_path(tmp_path, "a/../a/1.png", "row 3").samefile(tmp_path / "a" / "1.png")
    with pytest.raises(UserError, match=r"image .*a/2\.png of row 3 is missing"):
        image_path(tmp_path, "a/2.png", "row 3")
    with pytest.raises(UserError, match="image of row 3 is ''"):
        image_path(tmp_path, "", "row 3")
