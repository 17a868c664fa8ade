"""Images of a set that does not fit into memory: nothing is kept, no file stays open, and what is broken is named."""

import gc
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from hpa_bench.data import images
from hpa_bench.data.images import LazyImages, open_image, stamps
from hpa_bench.data.samples import content_hash
from hpa_bench.data.tasks import check_task, load_tasks, training_samples
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import MissingImage, UserError
from hpa_bench.runner.evaluation import Evaluator
from tests.support.lmeval_tasks import row, rows, write_task
from tests.support.models import random_llava


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HELD_BYTES", 0)


def load(folder: Path):
    return load_tasks(["colours"], [folder])["colours"]


def test_the_first_rows_are_kept_and_the_others_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load(write_task(tmp_path, "colours", {"train": rows(3), "test": rows(1)}))
    sizes = [image.width * image.height * 3 for sample in training_samples(task) for image in sample.images]
    monkeypatch.setattr(images, "HELD_BYTES", sizes[0] + sizes[1])

    first, second, third = training_samples(task)

    assert isinstance(first.images, list) and isinstance(second.images, list)
    assert isinstance(third.images, LazyImages) and len(third.images) == 1
    assert third.images[0].getpixel((0, 0)) == (0, 0, 255) and third.images[0] is not third.images[0]
    assert [stamp.file for sample in (first, third) for stamp in stamps(sample.images)] == [
        str(tmp_path / "red.png"),
        str(tmp_path / "blue.png"),
    ]


def test_no_file_stays_open(tmp_path: Path, nothing_kept: None) -> None:
    task = load(write_task(tmp_path, "colours", {"train": rows(30), "test": rows(30)}))
    engine = HFEngine(*random_llava())
    before = open_files()

    samples = training_samples(task)
    evaluator = Evaluator({"colours": task})
    evaluator.evaluate(engine)

    assert len(samples) == 30 and open_files() <= before


def test_responses_and_batches_do_not_depend_on_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(tmp_path, "colours", {"train": rows(6), "test": rows(6)})
    engine = HFEngine(*random_llava())
    kept = Evaluator({"colours": load(tmp_path)}).evaluate(engine)

    monkeypatch.setattr(images, "HELD_BYTES", 0)

    assert Evaluator({"colours": load(tmp_path)}).evaluate(engine) == kept


def test_a_torn_image_is_found_when_it_is_read_and_named(tmp_path: Path, nothing_kept: None) -> None:
    task = load(write_task(tmp_path, "colours", {"train": rows(2), "test": rows(1)}))
    (tmp_path / "green.png").write_bytes((tmp_path / "green.png").read_bytes()[:60])

    _, torn = training_samples(task)

    with pytest.raises(UserError, match=r"sample 'r1' in the training split of task 'colours' \(file .*green\.png\)"):
        list(torn.images)


@pytest.mark.parametrize("held", [0, 10**9])
def test_a_huge_image_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr(images, "HELD_BYTES", held)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    task = load(write_task(tmp_path, "colours", {"train": [row(1)], "test": [row(1)]}))

    with pytest.raises(
        UserError, match=r"sample 'r1' .* too large to be decoded safely .*720 pixels.*: save a smaller"
    ):
        check_task(task, "training")


def test_the_hash_sees_another_file(tmp_path: Path, nothing_kept: None) -> None:
    task = load(write_task(tmp_path, "colours", {"train": rows(3), "test": rows(1)}))
    before = content_hash(training_samples(task))

    Image.effect_noise((30, 24), 50).convert("RGB").save(tmp_path / "red.png")

    assert content_hash(training_samples(task)) != before


def test_drawn_images_have_a_hash_of_their_pixels() -> None:
    red, blue = ([Image.new("RGB", (4, 4), colour)] for colour in ("red", "blue"))

    assert stamps(red) == stamps([Image.new("RGB", (4, 4), "red")]) != stamps(blue)
    assert stamps(red)[0].file == ""


def test_a_missing_image_has_an_error_of_its_own(tmp_path: Path) -> None:
    from hpa_bench.data.downloads import image_path

    with pytest.raises(MissingImage):
        image_path(tmp_path, "gone.png", "row 3 of train.json")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.webp"])
def test_an_opened_image_holds_no_file_and_has_the_same_pixels(tmp_path: Path, name: str) -> None:
    Image.effect_noise((70, 50), 60).convert("RGB").save(tmp_path / name)
    before = open_files()

    opened = [open_image(tmp_path / name) for _ in range(20)]

    assert open_files() <= before
    assert opened[0].size == (70, 50) and opened[0].filename == str(tmp_path / name)
    with Image.open(tmp_path / name) as expected:
        pixels = expected.convert("RGB").tobytes()
    assert all(image.convert("RGB").tobytes() == pixels for image in opened)
    assert open_files() <= before


@pytest.mark.parametrize("kind", ["tiff", "eps", "ppm", "ico", "pdf"])
def test_formats_that_no_data_set_uses_are_not_opened(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (70, 50)).save(tmp_path / "a.png", kind)

    with pytest.raises(
        UnidentifiedImageError, match=r"image file .*a\.png', expected one of PNG, JPEG, WEBP, GIF, BMP"
    ):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["tiff", "eps"])
def test_they_are_refused_of_a_reader_of_ones_own_too(tmp_path: Path, kind: str) -> None:
    write_task(tmp_path, "colours", {"train": [row(1)], "test": [row(1)]})
    Image.new("RGB", (70, 50)).save(tmp_path / "red.png", kind)

    with pytest.raises(UserError, match=rf"image of sample 'r1' .* is {kind.upper()}: expected one of PNG"):
        check_task(load(tmp_path), "training")


def test_no_program_is_started_for_a_column_of_images(tmp_path: Path) -> None:
    Image.new("RGB", (70, 50)).save(tmp_path / "a.eps")
    load(write_task(tmp_path, "colours", {"train": [row(1)], "test": [row(1)]}))

    with Image.open(tmp_path / "a.eps") as image, pytest.raises(OSError, match="Unable to locate Ghostscript"):
        image.load()


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")

    with pytest.raises(UnidentifiedImageError, match="cannot identify image file .*a.png"):
        open_image(tmp_path / "a.png")
