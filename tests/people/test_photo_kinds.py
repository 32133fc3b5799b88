"""Photos decoded smaller, from memory and from Pillow; and the bounds of what is taken for a photo, exactly."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cls.errors import FileError
from cls.people import photos
from cls.people.photos import (
    check_photo,
    decode_photo,
    decode_photo_reduced,
    photo_of_array,
    photo_of_pil,
    read_photo,
)

_ORIENTATION = 0x0112
_HINT = "remove or replace the file"


def _slope(height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    """Smooth, with another colour in every corner: a turn or a wrong size shows."""
    rows, columns = np.indices((height, width))
    return np.stack([rows * 200 // height, columns * 200 // width, 200 - rows * 180 // height], axis=2).astype(np.uint8)


def _saved(image: NDArray[np.uint8] | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return _saved(_slope(), exif=exif.tobytes(), quality=95)


@pytest.mark.parametrize(
    ("min_longer_side_px", "factor"),
    [(1, 8), (79, 8), (80, 8), (81, 4), (160, 4), (161, 2), (320, 2), (321, 1), (640, 1), (900, 1)],
)
def test_a_large_jpeg_is_decoded_no_larger_than_is_enough(min_longer_side_px: int, factor: int) -> None:
    content = _saved(_slope(), quality=95)
    image, size = decode_photo_reduced(content, min_longer_side_px)
    assert image.shape == (480 // factor, 640 // factor, 3)
    assert size == (480, 640)
    expected = _slope()[factor // 2 :: factor, factor // 2 :: factor]
    assert np.abs(image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(("orientation", "is_turned"), [(1, False), (3, False), (6, True), (8, True)])
def test_a_turned_jpeg_is_decoded_smaller_as_it_is_displayed(orientation: int, is_turned: bool) -> None:
    whole = decode_photo(_turned(orientation))
    image, size = decode_photo_reduced(_turned(orientation), 160)
    assert size == whole.shape[:2] == ((640, 480) if is_turned else (480, 640))
    assert image.shape == ((160, 120, 3) if is_turned else (120, 160, 3))
    assert np.abs(image.astype(int) - whole[2::4, 2::4]).mean() < 3


def test_an_upright_jpeg_is_measured_by_its_longer_side() -> None:
    content = _saved(_slope(640, 320), quality=95)
    image, size = decode_photo_reduced(content, 320)
    assert (image.shape, size) == ((320, 160, 3), (640, 320))
    square, size = decode_photo_reduced(_saved(_slope(64, 64)), 16)
    assert (square.shape, size) == ((16, 16, 3), (64, 64))


def test_other_kinds_are_decoded_whole() -> None:
    image, size = decode_photo_reduced(_saved(_slope(), "PNG"), 8)
    assert np.array_equal(image, _slope())
    assert size == (480, 640)


@pytest.mark.parametrize(
    "read", [check_photo, decode_photo, lambda content, where: decode_photo_reduced(content, 60, where=where)]
)
def test_a_jpeg_without_picture_data_is_refused_everywhere(read: Any) -> None:
    content = _saved(_slope(64, 64))
    start = content.index(b"\xff\xda")
    without_data, without_frame = content[: start + 4] + b"\xff\xd9", content.replace(b"\xff\xc0", b"\xff\xe5")
    for broken, code in ((without_data, "file.damaged"), (without_frame, "file.not_an_image")):
        with pytest.raises(FileError) as caught:
            read(broken, where="a.jpeg")
        assert (caught.value.code, caught.value.where, caught.value.hint) == (code, "a.jpeg", _HINT)


def test_the_message_of_what_cannot_be_decoded() -> None:
    with pytest.raises(FileError) as caught:
        decode_photo(b"", where="x")
    assert (caught.value.code, caught.value.where, caught.value.hint) == ("file.empty", "x", _HINT)
    with pytest.raises(FileError) as caught:
        decode_photo(b"text", where="x")
    assert (caught.value.code, caught.value.where, caught.value.hint) == ("file.not_an_image", "x", _HINT)
    assert "JPEG, PNG, WebP, BMP or TIFF" in caught.value.what


def test_bytes_may_be_an_array() -> None:
    content = np.frombuffer(_saved(_slope(8, 9), "PNG"), np.uint8)
    assert np.array_equal(decode_photo(content), _slope(8, 9))


def test_as_many_pixels_as_are_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert photos.MAX_PIXELS == 150_000_000
    monkeypatch.setattr(photos, "MAX_PIXELS", 2_000_000)
    whole, larger = _saved(_slope(1000, 2000), "PNG"), _saved(_slope(1001, 2000), "PNG")
    check_photo(whole)
    assert decode_photo(whole).shape == (1000, 2000, 3)
    for read in (check_photo, decode_photo):
        with pytest.raises(FileError) as caught:
            read(larger, where="x")
        assert (caught.value.code, caught.value.where, caught.value.hint) == ("file.too_large", "x", _HINT)
        assert " 2 million pixels" in caught.value.what
    # Pillow's own bound is a third of this.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    with pytest.raises(FileError) as caught:
        check_photo(whole[:])
    assert caught.value.code == "file.too_large"
    assert " 2 million pixels" in caught.value.what
    path = tmp_path / "a.png"
    path.write_bytes(larger)
    with pytest.raises(FileError) as caught:
        read_photo(path)
    assert (caught.value.code, caught.value.where) == ("file.too_large", str(path))


def _jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments)


_APP = b"\xff\xe1\x00\x06\xff\xd9\xff\xd9"
_SCAN = b"\xff\xda\x00\x02\x11\x22"


@pytest.mark.parametrize(
    ("content", "is_whole"),
    [
        (_jpeg(_SCAN, b"\xff\xd9"), True),
        (_jpeg(_SCAN), False),
        (_jpeg(_APP, _SCAN, b"\xff\xd9"), True),
        (_jpeg(_APP, _SCAN), False),
        (_jpeg(_APP), False),
        (_jpeg(b"\xff", _SCAN, b"\xff\xd9"), True),
        (_jpeg(b"\xff\xff\xff", _APP, _SCAN), False),
        (_jpeg(b"\xff\x01", _SCAN, b"\xff\xd9"), True),
        (_jpeg(b"\xff\xd0", b"\xff\xd8", _SCAN, b"\xff\xd9"), True),
        (_jpeg(b"\xff\xcf\x00\x02", _SCAN, b"\xff\xd9"), True),
        (_jpeg(b"\xff\xd9\x00\x02", _SCAN, b"\xff\xd9"), True),
        (_jpeg(b"\xff\x02\x00\x02", _SCAN, b"\xff\xd9"), True),
        (_jpeg(b"\xff\xe1\x01\x02", bytes(256), _SCAN, b"\xff\xd9"), True),
        (_jpeg(b"\xff\xe1\x01\x02", bytes(255), _SCAN, b"\xff\xd9"), False),
        (_jpeg(b"\x00", _SCAN, b"\xff\xd9"), False),
        (_jpeg(b"\xff\xda\xff\xd9"), True),
        (_jpeg(b"\xff\xd0\xff\xd9"), False),
        (b"\xff\xd8", False),
        (b"", False),
    ],
)
def test_where_a_jpeg_ends(content: bytes, is_whole: bool) -> None:
    assert photos._is_whole_jpeg(content) is is_whole


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_arrays_of_every_kind(kind: type) -> None:
    scale = 1 if kind == np.uint8 else 256
    grey = np.array([[0, 9], [100, 255]], kind)
    expected = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    assert np.array_equal(photo_of_array(grey * scale), expected)
    assert np.array_equal(photo_of_array(grey[..., None] * scale), expected)
    rgb = np.arange(12, dtype=kind).reshape(2, 2, 3)
    made = photo_of_array(rgb[:, ::-1] * scale)
    assert np.array_equal(made, rgb[:, ::-1])
    assert made.flags["C_CONTIGUOUS"]
    assert made.dtype == np.uint8
    alpha = np.array([[0, 255], [255, 0]], kind)
    transparent = photo_of_array(np.dstack([rgb, alpha]) * scale)
    assert np.array_equal(transparent, np.where(alpha[..., None] == 0, 255, rgb))
    assert np.array_equal(
        photo_of_array(np.dstack([grey, alpha]) * scale), np.where(alpha[..., None] == 0, 255, expected)
    )


def test_sixteen_bits_are_cut_to_their_upper_eight() -> None:
    assert photo_of_array(np.array([[255, 256, 511, 65535]], np.uint16))[..., 0].tolist() == [[0, 1, 1, 255]]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 4, 0), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8), np.zeros((2, 2), bool),
    ],
)  # fmt: skip
def test_arrays_that_are_no_photo(array: NDArray[Any]) -> None:
    with pytest.raises(FileError) as caught:
        photo_of_array(array)
    assert caught.value.code == "file.unsupported_array"
    assert f"shape {array.shape} and type {array.dtype} " in caught.value.what
    assert "uint8 (height, width, 3)" in (caught.value.hint or "")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_transparent_pillow_pictures_are_on_white(mode: str) -> None:
    # One half is to be seen, the other is not.
    alpha = np.zeros((4, 6), np.uint8)
    alpha[:, :3] = 255
    image = Image.fromarray(np.dstack([np.full((4, 6, 3), 40, np.uint8), alpha]))
    if mode == "PA":
        converted = Image.new("P", (6, 4), 0)
        converted.putpalette([40, 40, 40])
        converted.putalpha(Image.fromarray(alpha))
    else:
        converted = image.convert("LA").convert("La") if mode == "La" else image.convert(mode)
    assert converted.mode == mode
    if mode == "La":
        with pytest.raises(FileError) as caught:  # Pillow knows no way from it, and it is not taken for opaque
            photo_of_pil(converted)
        assert caught.value.code == "file.damaged"
        return
    made = photo_of_pil(converted)
    assert made[:, :3].tolist() == [[[40] * 3] * 3] * 4
    assert (made[:, 3:] == 255).all()


def test_a_palette_with_a_transparent_colour_is_on_white() -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert photo_of_pil(image)[0, 0].tolist() == [200, 100, 50]
    image.info["transparency"] = 1
    assert photo_of_pil(image)[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_known_white_are_refused(mode: str) -> None:
    with pytest.raises(FileError) as caught:
        photo_of_pil(Image.new(mode, (4, 4)))
    assert caught.value.code == "file.unsupported_mode"
    assert f"mode '{mode}'" in caught.value.what
    assert "'L'" in (caught.value.hint or "")


def test_pillow_pictures_are_upright_and_scaled() -> None:
    with Image.open(io.BytesIO(_turned(6))) as image:
        made = photo_of_pil(image)
    assert np.abs(made.astype(int) - decode_photo(_turned(6))).max() <= 2
    sixteen = Image.fromarray(np.array([[0, 65535], [256, 511]], np.uint16))
    assert sixteen.mode == "I;16"
    assert photo_of_pil(sixteen)[..., 1].tolist() == [[0, 255], [1, 1]]
    assert photo_of_pil(Image.new("CMYK", (2, 2), (0, 0, 0, 0))).min() == 255
    made = photo_of_pil(Image.new("L", (2, 3), 7))
    assert (made.shape, made.dtype, made[0, 0].tolist()) == ((3, 2, 3), np.uint8, [7, 7, 7])
    assert made.flags["WRITEABLE"]


def test_a_turned_tiff_of_a_file_keeps_its_name(tmp_path: Path) -> None:
    """Pillow maps an uncompressed file into memory, width and height exchanged."""
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    path = tmp_path / "a.tiff"
    picture = Image.fromarray(_slope(20, 30)).convert("L")
    picture.save(path, exif=exif)
    with Image.open(path) as image:
        made = photo_of_pil(image)
        assert image.filename == str(path)
    assert np.array_equal(made[..., 0], np.rot90(np.asarray(picture), -1))


def test_a_damaged_pillow_picture_is_refused() -> None:
    content = _saved(_slope(64, 64), "PNG")
    with (
        Image.open(io.BytesIO(content[: len(content) // 2])) as image,
        pytest.raises(FileError) as caught,
    ):
        photo_of_pil(image)
    assert (caught.value.code, caught.value.hint) == ("file.damaged", _HINT)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "LAB"])
def test_files_that_opencv_would_show_otherwise(mode: str) -> None:
    image = Image.fromarray(_slope(6, 8))
    if mode == "LAB":
        from PIL import ImageCms

        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        made = ImageCms.applyTransform(image, to_lab)
        assert made is not None
        decoded = decode_photo(_saved(made, "TIFF"))
        assert decoded.shape == (6, 8, 3)
        return
    image.putalpha(0)
    decoded = decode_photo(_saved(image.convert(mode), "PNG"))
    assert (decoded == 255).all()
    decoded[0, 0] = 0  # the caller's own


def test_a_png_whose_checksum_is_wrong_or_that_has_no_end() -> None:
    content = bytearray(_saved(_slope(40, 40), "PNG"))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(FileError) as caught:
        check_photo(bytes(content))
    assert caught.value.code == "file.damaged"
    whole = _saved(_slope(40, 40), "PNG")
    with pytest.raises(FileError) as caught:
        check_photo(whole[:-12])
    assert caught.value.code == "file.damaged"


def test_where_it_is_from_is_given_by_name() -> None:
    for read in (decode_photo, check_photo):
        with pytest.raises(TypeError):
            read(_saved(_slope(8, 8), "PNG"), "a.png")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        decode_photo_reduced(_saved(_slope(8, 8), "PNG"), 8, "a.png")  # type: ignore[misc]


def test_a_picture_with_a_second_one_behind_it_is_a_jpeg() -> None:
    """Cameras write MPO: a JPEG with another view after its end."""
    content = _saved(Image.fromarray(_slope()), "MPO", save_all=True, append_images=[Image.fromarray(_slope(48, 64))])
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "MPO"
    image_rgb, size = decode_photo_reduced(content, 160)
    assert (image_rgb.shape, size) == ((120, 160, 3), (480, 640))
    check_photo(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_every_kind_of_file_is_read(kind: str) -> None:
    content = _saved(_slope(40, 60), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.abs(decode_photo(content).astype(int) - _slope(40, 60)).max() <= (30 if kind == "JPEG" else 0)
    check_photo(content)


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO"])
def test_no_other_kind_is_read(kind: str) -> None:
    with pytest.raises(FileError) as caught:
        check_photo(_saved(_slope(32, 32), kind))
    assert caught.value.code == "file.not_an_image"
    assert "JPEG, PNG, WebP, BMP or TIFF" in caught.value.what


def test_a_jpeg_is_checked_in_small_and_others_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    monkeypatch.setattr(photos, "decode_photo", lambda content, where: decoded.append(where))
    for name, kind in (("a.jpeg", "JPEG"), ("b.png", "PNG"), ("c.webp", "WEBP")):
        check_photo(_saved(_slope(64, 64), kind), where=name)
    assert decoded == ["b.png", "c.webp"]


def test_a_picture_that_is_too_large_is_not_looked_at_any_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checksums are compared of pictures that would be decoded alone."""
    content = bytearray(_saved(_slope(20, 20), "PNG"))
    content[content.index(b"IDAT") + 10] ^= 0xFF
    with pytest.raises(FileError) as caught:
        check_photo(bytes(content))
    assert caught.value.code == "file.damaged"
    monkeypatch.setattr(photos, "MAX_PIXELS", 399)
    with pytest.raises(FileError) as caught:
        check_photo(bytes(content))
    assert caught.value.code == "file.too_large"


@pytest.mark.parametrize("read", [check_photo, decode_photo, lambda c, where: decode_photo_reduced(c, 8, where=where)])
def test_what_opencv_cannot_decode_is_said_of_the_file(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos.cv2, "imdecode", lambda content, flags: None)
    with pytest.raises(FileError) as caught:
        read(_saved(_slope(64, 64)), where="a.jpeg")
    assert (caught.value.code, caught.value.where, caught.value.hint) == ("file.undecodable", "a.jpeg", _HINT)
