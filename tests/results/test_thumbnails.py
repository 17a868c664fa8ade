import base64
import io

import numpy as np
from PIL import Image

from hpa_bench.data.samples import Sample
from hpa_bench.results.thumbnails import BLURRED, KEPT, SIDE, blurred, thumbnail_rows


def noise(width, height, seed=0, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def samples(count, image):
    return [Sample(f"s{i}", "task", "", "", [image]) for i in range(count)]


def decoded(url):
    head, _, content = url.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


def only(image):
    ((row,),) = [row["images"] for row in thumbnail_rows(samples(1, image))]
    return row


def test_samples_are_spread_over_the_set():
    ids = [row["id"] for row in thumbnail_rows(samples(100, noise(4, 4)))]

    assert len(ids) == KEPT and ids[:2] == ["s0", "s6"] and ids[-1] == "s90"
    assert [row["id"] for row in thumbnail_rows(samples(3, noise(4, 4)))] == ["s0", "s1", "s2"]


def test_large_images_shrink_and_small_ones_stay():
    assert decoded(only(noise(640, 320))).size == (SIDE, SIDE // 2)
    assert decoded(only(noise(48, 32))).size == (48, 32)
    assert decoded(only(noise(2000, 3))).size == (SIDE, 1)


def test_a_drawing_keeps_its_pixels_and_a_photograph_is_small():
    drawing = Image.new("RGB", (64, 64), "white")
    drawing.paste("red", (10, 10, 30, 50))

    assert np.array_equal(np.asarray(decoded(only(drawing))), np.asarray(drawing))
    assert decoded(only(noise(160, 160))).format == "JPEG"


def test_every_mode_is_kept():
    for mode in ("L", "RGBA", "P", "CMYK", "1", "LA"):
        assert decoded(only(noise(20, 10, mode=mode))).mode == "RGB"


def test_what_a_file_says_besides_its_pixels_is_dropped():
    written = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a secret"  # ImageDescription
    noise(300, 300).save(written, "JPEG", exif=exif, comment=b"another secret", icc_profile=b"third secret")
    image = Image.open(written)

    content = base64.b64decode(only(image).partition(",")[2])

    assert b"secret" in written.getvalue() and b"secret" not in content
    assert image.info["comment"] == b"another secret"  # The caller's image is as it was.


def test_blurred_images_hold_no_detail():
    fine = np.indices((64, 64)).sum(0) % 2 * 255
    one, two = (only(Image.fromarray(pixels.astype(np.uint8)).convert("RGB")) for pixels in (fine, 255 - fine))

    assert one != two and blurred(one) == blurred(two)
    assert max(decoded(blurred(one)).size) == BLURRED
