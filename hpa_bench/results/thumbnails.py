"""Small copies of the images of a few samples, kept in the run directory for the examples of its report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT = 16
"""Samples of a set whose images are kept, spread evenly over the set."""
SIDE = 160
"""The longest side of a thumbnail, in pixels; smaller images keep their size."""
BLURRED = 8
"""The longest side of a blurred one: nothing finer is left in the page that shows it, whatever its reader does."""
KINDS = ("png", "jpeg")
"""Formats that they are kept in, and no other is read: Pillow would start a program for some."""


class WithImages(Protocol):
    """A sample, as far as it matters here."""

    @property
    def id(self) -> str:
        """What it is joined by."""

    @property
    def images(self) -> Sequence[Image]:
        """What it shows."""


def thumbnail_rows(samples: Sequence[WithImages]) -> list[dict[str, Any]]:
    """Return the rows `{id, images}` of the samples that may stand as examples; an image is a `data:` URL."""
    spread = samples[:: max(1, len(samples) // KEPT)][:KEPT]
    return [{"id": sample.id, "images": [_encode(image, SIDE) for image in sample.images]} for sample in spread]


def blurred(image: str) -> str:
    """Return an image, a `data:` URL, with no more than its blurred colours left."""
    from PIL import Image

    content = base64.b64decode(image.partition(",")[2])
    return _encode(Image.open(io.BytesIO(content), formats=KINDS), BLURRED)


def _encode(image: Image, side: int) -> str:
    """Return an image, reduced to a longest side, as a `data:` URL without what its file said besides pixels."""
    from PIL.Image import Resampling

    small = image.convert("RGB")
    small.info = {}  # An EXIF block may hold a preview of the image, sharp.
    small.thumbnail((side, side), Resampling.BOX)
    encoded = []
    for kind in KINDS:
        written = io.BytesIO()
        small.save(written, kind, quality=85)
        encoded.append(f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}")
    return min(encoded, key=len)  # Drawings are smaller as PNG, photographs as JPEG.
