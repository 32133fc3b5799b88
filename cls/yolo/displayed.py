"""A picture's bytes as displayed: upright, without an EXIF orientation, and annotations moved along."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cls.errors import FileError

_ORIENTATION_TAG = 0x0112
_TURNED = (5, 6, 7, 8)
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "MPO": ".jpg"}


@dataclass(frozen=True)
class DisplayedPicture:
    """A picture whose stored pixels are the displayed ones.

    Attributes:
        content: the file's bytes; the original's unless it had to be turned.
        suffix: what a file of this format ends in.
        width_px: width as displayed.
        height_px: height as displayed.
        orientation: the EXIF orientation the original had, 1 to 8.
    """

    content: bytes
    suffix: str
    width_px: int
    height_px: int
    orientation: int = 1

    def points_as_displayed(
        self, points_xy_px: NDArray[np.float64], width_px: int, height_px: int
    ) -> NDArray[np.float64]:
        """Moves points annotated on a picture of the given size onto this one.

        Annotation tools show pictures upright or as stored; which of the two it was is seen from the size (a picture
        turned by 180 degrees or mirrored is taken as shown upright). A copy scaled evenly is understood too.

        Args:
            points_xy_px: (n, 2).
            width_px: width the annotation file gives.
            height_px: height the annotation file gives.

        Raises:
            FileError: the size fits neither way.
        """
        if _is_same_shape(width_px, height_px, self.width_px, self.height_px):
            return points_xy_px * (self.width_px / width_px, self.height_px / height_px)
        if self.orientation in _TURNED and _is_same_shape(width_px, height_px, self.height_px, self.width_px):
            stored = points_xy_px * (self.height_px / width_px, self.width_px / height_px)
            stored_x, stored_y = stored.T
            x = self.width_px - stored_y if self.orientation in (6, 7) else stored_y
            y = self.height_px - stored_x if self.orientation in (7, 8) else stored_x
            return np.stack([x, y], axis=1)
        raise FileError(
            f"the picture is {self.width_px}x{self.height_px}, its annotation was made on {width_px}x{height_px}"
        )


def _is_same_shape(width_px: int, height_px: int, other_width_px: int, other_height_px: int) -> bool:
    """Whether one size is an even scaling of the other, but for a pixel of rounding."""
    if min(width_px, height_px) < 1:
        return False
    scale = other_width_px / width_px
    return abs(height_px * scale - other_height_px) <= max(1.0, scale)


def as_displayed(content: bytes) -> DisplayedPicture:
    """Reads a picture completely and turns it upright where its EXIF orientation says so.

    Raises:
        FileError: the bytes are not a whole picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            suffix = _SUFFIXES.get(image.format or "")
            orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
            if suffix is not None and orientation not in range(2, 9):
                return DisplayedPicture(content, suffix, *image.size)
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileError(f"is not a picture that can be decoded ({error})") from error
    stream = io.BytesIO()
    upright.save(stream, "JPEG", quality=95, subsampling=0)
    is_known = orientation if orientation in range(1, 9) else 1
    return DisplayedPicture(stream.getvalue(), ".jpg", *upright.size, is_known)
