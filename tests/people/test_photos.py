"""Photos are read as they are displayed; what is no whole photo is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cls.errors import FileError
from cls.people import ALL, CHOICES, LARGEST, SINGLE
from cls.people.photos import check_photo, decode_photo, read_photo, whole_photo

_ORIENTATION = 0x0112


def _quarters(height: int = 40, width: int = 64) -> Image.Image:
    """Four quarters of clear colours: a wrong turn or a wrong channel order shows."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 30)
    image[: height // 2, width // 2 :] = (30, 220, 30)
    image[height // 2 :, : width // 2] = (30, 30, 220)
    image[height // 2 :, width // 2 :] = (220, 220, 30)
    return Image.fromarray(image)


def _noise(size: tuple[int, int] = (320, 240)) -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), size))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    path = tmp_path / "photo"
    path.write_bytes(_saved(_quarters(), kind, exif=exif))
    with Image.open(path) as stored:
        displayed = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert displayed.shape == ((40, 64, 3) if orientation < 5 else (64, 40, 3))
    assert _difference(read_photo(path), displayed) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_transparent_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    image = _quarters().convert("RGBA")
    content = _saved(image, "PNG", exif=exif)
    with Image.open(io.BytesIO(content)) as stored:
        displayed = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert _difference(decode_photo(content), displayed) == 0


@pytest.mark.parametrize(
    "convert",
    [lambda image: image.convert("L"), lambda image: image.convert("P"), lambda image: image.convert("1")],
    ids=["grey", "palette", "black and white"],
)
def test_pictures_of_fewer_colours(convert: Callable[[Image.Image], Image.Image]) -> None:
    image = convert(_quarters())
    assert _difference(decode_photo(_saved(image, "PNG")), np.asarray(image.convert("RGB"))) < 1


def test_grey_and_cmyk_jpegs() -> None:
    grey = _quarters().convert("L")
    assert _difference(decode_photo(_saved(grey, "JPEG", quality=95)), np.asarray(grey.convert("RGB"))) < 2
    cmyk = _saved(_quarters().convert("CMYK"), "JPEG", quality=95)
    assert _difference(decode_photo(cmyk), np.asarray(_quarters())) < 8
    check_photo(cmyk)


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    encoded = cv2.imencode(".png", values)[1].tobytes()
    expected = np.repeat((values // 257)[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(decode_photo(encoded).astype(int) - expected).max() <= 1
    colour = np.asarray(_quarters()).astype(np.uint16) * 257
    assert _difference(decode_photo(cv2.imencode(".png", colour[..., ::-1])[1].tobytes()), np.asarray(_quarters())) < 1


def test_transparent_parts_are_white() -> None:
    image = np.dstack([np.asarray(_quarters()), np.zeros((40, 64), np.uint8)])
    image[:20, :, 3] = 255
    for kind in ("PNG", "WEBP"):
        decoded = decode_photo(_saved(Image.fromarray(image), kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert _difference(decoded[:20], np.asarray(_quarters())[:20]) == 0
        assert (decoded[20:] == 255).all()


_BROKEN = ("file.damaged", "file.cut_short", "file.undecodable", "file.not_an_image")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_cut_off_picture_is_refused(kind: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    content = _saved(_noise(), kind)
    check_photo(content)
    for cut in (content[: int(len(content) * share)], content[:-1]):
        if kind in ("BMP", "WEBP", "TIFF") and cut == content[:-1]:
            continue  # the last byte is padding or a trailer: the picture is whole without it
        for read in (check_photo, decode_photo):
            with pytest.raises(FileError) as caught:
                read(cut)
            assert caught.value.code in _BROKEN
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_whose_rest_is_zeros_is_cut_off() -> None:
    content = _saved(_noise(), "JPEG")
    half = len(content) // 2
    with pytest.raises(FileError) as caught:
        check_photo(content[:half] + bytes(len(content) - half))
    assert caught.value.code == "file.cut_short"


def test_a_preview_inside_does_not_pass_for_the_end() -> None:
    exif = Image.Exif()
    preview = _saved(_noise((80, 60)), "JPEG")
    exif[0x010E] = "x"
    content = _saved(_noise(), "JPEG", exif=exif.tobytes() + preview)
    assert content.count(b"\xff\xd9") == 2
    check_photo(content)
    with pytest.raises(FileError) as caught:
        check_photo(content[: len(content) * 3 // 4])
    assert caught.value.code == "file.cut_short"


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 4}, {"subsampling": 0}])
def test_kinds_of_jpeg(options: dict[str, Any]) -> None:
    content = _saved(_noise(), "JPEG", quality=90, **options)
    check_photo(content)
    check_photo(content + b"what a camera appends" * 100)
    with pytest.raises(FileError) as caught:
        check_photo(content[: len(content) // 2])
    assert caught.value.code == "file.cut_short"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"<html>404</html>",
        b"\x89PNG\r\n\x1a\n",
        bytes(5000),
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
    ],
)
def test_what_is_no_picture(content: bytes) -> None:
    for read in (check_photo, decode_photo):
        with pytest.raises(FileError) as caught:
            read(content, where="a.jpeg")
        assert caught.value.code in (_BROKEN if content else ("file.empty",))
        assert caught.value.where == "a.jpeg"


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    for size in ((13_000, 13_000), (30_000, 30_000)):
        with pytest.raises(FileError) as caught:
            check_photo(_saved(Image.new("1", size), "PNG"))
        assert caught.value.code == "file.too_large"


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read_photo(tmp_path / "absent.jpeg")
    assert (caught.value.code, caught.value.where) == ("file.not_found", str(tmp_path / "absent.jpeg"))
    with pytest.raises(FileError) as caught:
        read_photo(tmp_path)
    assert (caught.value.code, caught.value.where) == ("file.unreadable", str(tmp_path))


def test_random_damage_never_crashes() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP"):
        whole = np.frombuffer(_saved(_noise((64, 48)), kind), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, len(damaged), 12)] = rng.integers(0, 256, 12)
            try:
                check_photo(damaged.tobytes())
                image = decode_photo(damaged.tobytes())
            except FileError:
                continue
            assert image.ndim == 3
            assert image.dtype == np.uint8


def test_a_whole_photo_is_one_person_from_corner_to_corner() -> None:
    person = whole_photo(np.zeros((30, 20, 3), np.uint8))
    assert person.box_xyxy_px == (0.0, 0.0, 20.0, 30.0)
    (outline,) = person.polygons_xy_rel
    assert outline.dtype == np.float64
    assert outline.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_choices_of_people_stand_in_the_order_of_the_help() -> None:
    assert CHOICES == (LARGEST, SINGLE, ALL)
