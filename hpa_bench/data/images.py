"""The images of samples: checked when a set is read, decoded when they are used, kept only where they are small.

A set of a few thousand small images stays in memory; one of 240,000 photographs must not.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, overload

from hpa_bench.errors import UserError

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from PIL.Image import Image

HELD_BYTES = 32 * 2**20
"""Pixels kept of one split: its first rows are decoded when the set is read, the others whenever they are used."""


FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What data sets use. Pillow knows many more, of which some start a program (EPS) or are seldom looked at."""


class Stamp(NamedTuple):
    """What is known of an image without its pixels, where it comes from a file; else a hash of them."""

    file: str
    """The file's path, or "" for an image that is drawn or stands in a table."""
    bytes: int
    """The file's size."""
    size: tuple[int, int]
    """Width and height in pixels."""
    pixels: str
    """SHA-256 of mode, size and pixels, for an image without a file; else ""."""


class LazyImages(Sequence["Image"]):
    """The images of one sample, decoded anew whenever they are read.

    Args:
        read: returns the decoded images.
        stamps: one for each image.
    """

    def __init__(self, read: Callable[[], Sequence[Image]], stamps: Sequence[Stamp]) -> None:
        self.stamps = tuple(stamps)
        self._read = read

    def __len__(self) -> int:
        return len(self.stamps)

    def __iter__(self) -> Iterator[Image]:
        return iter(self._read())

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        return self._read()[index]


class ImageReader:
    """Reads the images of one split of a task, and keeps the pixels of its first rows.

    Args:
        task: its `doc_to_image` opens a row's images.
        docs: the rows of the split, read again for images that are not kept.
    """

    def __init__(self, task: Task, docs: Any) -> None:
        self._task = task
        self._docs = docs
        self._left = HELD_BYTES

    def images(self, doc: Mapping[str, Any], index: int, what: str) -> Sequence[Image]:
        """Return the images of a row, decoded where the split's share of memory allows it.

        Args:
            doc: the row.
            index: its place in the split.
            what: the row, for errors, such as "sample '3' in the test split of task 'x'".

        Raises:
            UserError: an image is missing, is no image or is too large, or, where it is decoded now, broken.
        """
        opened = _open(self._task, doc, what)
        size = sum(image.width * image.height * len(image.getbands()) for image in opened)
        if size <= self._left:
            self._left -= size
            return _decode(opened, what)
        fetch = partial(self._docs.__getitem__, index) if hasattr(self._docs, "__getitem__") else lambda: doc
        return LazyImages(partial(_read, self._task, fetch, what), [_stamp(image, what) for image in opened])


def open_image(path: Path) -> Image:
    """Open an image by its header and leave its file closed until its pixels are read.

    A `doc_to_image` of files should use it: lm-eval's own models open every image of a set at once, and a system allows
    a process about a thousand open files.
    """
    file: Any = _FileAtRest(path)
    image = open_stream(file, str(path))
    file.rest()
    return image


def open_stream(stream: Any, name: str) -> Image:
    """Open an image of one of `FORMATS` by its header.

    Args:
        stream: a binary file.
        name: its path, or what else it is called.

    Raises:
        PIL.UnidentifiedImageError: it is none.
    """
    from PIL import Image

    try:
        image = Image.open(stream, formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise Image.UnidentifiedImageError(
            f"cannot identify image file {name!r}, expected one of {', '.join(FORMATS)}"
        ) from None
    image.filename = name
    return image


def start_no_program() -> None:
    """Keep Pillow from starting Ghostscript for an EPS: a column of images is decoded before its row is seen here."""
    from PIL import EpsImagePlugin

    EpsImagePlugin.gs_binary = False


class _FileAtRest:
    """A file that PIL reads: open for the header, closed after it, and in memory once the pixels are asked for."""

    _USED = ("read", "seek", "tell")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("rb")
        # PIL reads a header in dozens of pieces: by the file's own methods, until it rests.
        self.__dict__.update({name: getattr(self._file, name) for name in self._USED})

    def rest(self) -> None:
        """Close the file; the next call goes on in the same place, in memory: PIL may keep what it reads from."""
        self._at = self._file.tell()
        self._file.close()
        for name in self._USED:
            del self.__dict__[name]

    def read(self, size: int = -1) -> bytes:
        return self._awake().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._awake().seek(offset, whence)

    def tell(self) -> int:
        return self._awake().tell()

    def close(self) -> None:
        self._file.close()

    def _awake(self) -> BinaryIO:
        if self._file.closed:
            self._file = io.BytesIO(self._path.read_bytes())
            self._file.seek(self._at)
        return self._file


def stamps(images: Sequence[Image]) -> Sequence[Stamp]:
    """Return a stamp for each image of a sample."""
    return images.stamps if isinstance(images, LazyImages) else [_stamp(image, "a sample") for image in images]


def content_fields(images: Sequence[Image]) -> list[bytes]:
    """Return what stands for a sample's images in a hash of its set.

    These are modes, sizes and pixels of images kept in memory or without a file, and of the others what is known
    without reading them whole: the file's name and length, and the image's width and height.
    """
    if isinstance(images, LazyImages):
        return [
            (stamp.pixels or f"{Path(stamp.file).name} {stamp.bytes} {stamp.size}").encode() for stamp in images.stamps
        ]
    return [field for image in images for field in (f"{image.mode} {image.size}".encode(), image.tobytes())]


def _stamp(image: Image, what: str) -> Stamp:
    file = str(getattr(image, "filename", "") or "")
    if file:
        try:
            return Stamp(file, Path(file).stat().st_size, image.size, "")
        except OSError:
            pass  # The file is gone, or was none: its pixels speak for it.
    (image,) = _decode([image], what)
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes())
    return Stamp("", 0, image.size, digest.hexdigest())


def _read(task: Task, fetch: Callable[[], Mapping[str, Any]], what: str) -> list[Image]:
    return _decode(_open(task, fetch(), what), what)


def _open(task: Task, doc: Mapping[str, Any], what: str) -> list[Image]:
    """Return the images of a row as PIL opens them: of a file, only its header is read."""
    from PIL import Image

    if task.config.doc_to_image is None:
        return []
    try:
        images = task.doc_to_image(doc)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(
            f"An image of {what} is too large to be decoded safely ({str(error).split(',')[0]}): save a smaller copy of"
            " it, or leave the row out."
        ) from error
    except Exception as error:
        raise _undecodable(what, getattr(error, "filename", None), error) from error
    images = images if isinstance(images, list | tuple) else [images]
    for image in images:
        if not isinstance(image, Image.Image):
            raise UserError(
                f"An image of {what} cannot be decoded: doc_to_image gives {type(image).__name__}, expected PIL images."
            )
        # A reader of one's own may have opened it.
        if image.format is not None and image.format not in (*FORMATS, "MPO"):
            raise UserError(f"An image of {what} is {image.format}: expected one of {', '.join(FORMATS)}.")
    return list(images)


def _decode(images: Sequence[Image], what: str) -> list[Image]:
    """Read the pixels of opened images; only this finds what is truncated."""
    for image in images:
        file = getattr(image, "filename", None)
        try:
            image.load()
        except Exception as error:
            raise _undecodable(what, file, error) from error
    return list(images)


def _undecodable(what: str, file: object, error: Exception) -> UserError:
    place = f" (file {file})" if file and str(file) not in str(error) else ""
    return UserError(f"An image of {what}{place} cannot be decoded: {type(error).__name__}: {str(error).rstrip('.')}.")
