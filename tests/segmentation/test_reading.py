from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cls.errors import FileError
from cls.people.photos import Person, read_photo
from cls.segmentation.builder import ReadPhoto, read_ahead, read_for_segmentation


def write_photo(path: Path, width_px: int, height_px: int, *, orientation: int = 1) -> Path:
    x, y = np.meshgrid(np.linspace(0, 255, width_px), np.linspace(0, 255, height_px))
    pixels = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(2600, 1300), (1300, 2600), (500, 400)])
def test_a_large_jpeg_is_read_smaller_and_says_how_large_it_is(
    tmp_path: Path, size: tuple[int, int], orientation: int
) -> None:
    path = write_photo(tmp_path / "photo.jpg", *size, orientation=orientation)
    photo, whole = read_for_segmentation(path), read_photo(path)
    assert (photo.height_px, photo.width_px) == whole.shape[:2]
    longer_px = max(photo.image_rgb.shape[:2])
    assert longer_px == 500 if max(size) == 500 else 640 <= longer_px < 1280
    # The same picture, the same way up.
    corner = photo.image_rgb[2, 2].astype(int) - whole[4, 4].astype(int)
    assert np.abs(corner).max() < 12


def test_a_box_found_in_the_smaller_picture_is_given_in_the_whole_one(tmp_path: Path) -> None:
    photo = read_for_segmentation(write_photo(tmp_path / "photo.jpg", 2600, 1300))
    height_px, width_px = photo.image_rgb.shape[:2]
    found = Person("female", 0.9, (0.0, 0.0, width_px / 2, float(height_px)), ())
    assert photo.in_full_size(found).box_xyxy_px == (0.0, 0.0, 1300.0, 1300.0)


@pytest.mark.parametrize(
    ("content", "case"),
    [(b"", "empty"), (b"no picture", "not_an_image"), (b"\xff\xd8\xff\xe0 cut off", "damaged")],
)
def test_what_is_no_picture_is_said_to_be_none(tmp_path: Path, content: bytes, case: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_for_segmentation(path)
    assert (caught.value.code, caught.value.where) == (f"file.{case}", str(path))


def test_photos_come_in_order_and_broken_ones_do_not_stop_them(tmp_path: Path) -> None:
    paths = [write_photo(tmp_path / f"{number}.png", 20 + number, 10) for number in range(9)]
    paths[4].write_bytes(b"broken")
    paths.append(tmp_path / "missing.png")
    read = list(read_ahead(paths, threads=3, depth=4))
    places = [str(photo.path if isinstance(photo, ReadPhoto) else photo.where) for photo in read]
    assert places == [str(path) for path in paths]
    assert [photo.width_px for photo in read if isinstance(photo, ReadPhoto)] == [20, 21, 22, 23, 25, 26, 27, 28]
    assert [Path(str(photo.where)).name for photo in read if isinstance(photo, FileError)] == ["4.png", "missing.png"]
