"""Photo files to arrays as displayed; a file that is cut off or no photo is refused, never half read."""

from __future__ import annotations

import io
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cls.errors import FileError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 150_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_JPEG_FORMATS = ("JPEG", "MPO")
_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"IEND\xae\x42\x60\x82"
_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa")

# What OpenCV makes of these is not what is displayed.
_PILLOW_MODES = (*_TRANSPARENT_MODES, "LAB")

# Numbers without a known white: 32 bits a pixel, whole or with a fraction.
_BOUNDLESS_MODES = ("I", "F")
_ARRAY_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_PILLOW_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, MemoryError, struct.error)
_HINT = "remove or replace the file"


@dataclass(frozen=True)
class Person:
    """A person detected in a photo by a segmentation model, or stored in the pictures database.

    Attributes:
        cls: people class, e.g. `female`, `male`, `person`.
        conf: confidence, 0 to 1.
        box_xyxy_px: left, top, right, bottom in pixels of the photo as displayed (EXIF orientation applied); four zeros
            where a stored person has outlines and no box.
        polygons_xy_rel: outlines of the visible parts, each float64 of shape (points, 2), as fractions of width and
            height.
        id: stable name of the person, unique in the photo (`cls.people.polygons`); empty where there is none yet.
    """

    cls: str
    conf: float
    box_xyxy_px: tuple[float, float, float, float]
    polygons_xy_rel: tuple[NDArray[np.float64], ...] = field(repr=False)
    id: str = ""

    @property
    def box_area_px(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box_xyxy_px
        return max(right - left, 0.0) * max(bottom - top, 0.0)


def whole_photo(image_rgb: NDArray[np.uint8]) -> Person:
    """A whole photo, uint8 (height, width, 3), as one person."""
    height_px, width_px = image_rgb.shape[:2]
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    return Person("whole photo", 1.0, (0.0, 0.0, float(width_px), float(height_px)), (frame,))


# Sizes are checked here; what Pillow and OpenCV print about broken files is in the errors raised here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class _Header:
    """Format and size of a file, read without decoding it."""

    is_jpeg: bool
    is_png: bool
    is_for_pillow: bool
    stored_width_px: int
    stored_height_px: int


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Reads a photo as it is displayed (EXIF orientation applied).

    Returns:
        uint8 (height, width, 3), RGB; transparent parts on white.

    Raises:
        FileError: the file is missing, is not a picture, is cut off, or is too large to be a photo.
    """
    return decode_photo(read_photo_bytes(path), where=path)


def read_photo_bytes(path: Path) -> bytes:
    """The bytes of a photo's file.

    Raises:
        FileError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileError("there is no such picture", code="not_found", where=path) from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", code="unreadable", where=path) from error


def decode_photo(content: bytes | NDArray[np.uint8], *, where: object = None) -> NDArray[np.uint8]:
    """Decodes the bytes of a photo (JPEG, PNG, WebP, BMP, TIFF), EXIF orientation applied.

    Returns:
        uint8 (height, width, 3), RGB; transparent parts on white. 16-bit pictures are scaled, CMYK and grey converted.

    Raises:
        FileError: the bytes are not a picture, end too early, or make more than MAX_PIXELS pixels.
    """
    data = content if isinstance(content, bytes) else content.tobytes()
    header = _read_header(data, where)
    if header.is_for_pillow:
        return _decode_on_white(data, where)
    image_bgr = _decode_with_opencv(data, cv2.IMREAD_COLOR, where)
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)


def decode_photo_reduced(
    content: bytes, min_longer_side_px: int, *, where: object = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decodes a photo, a large JPEG at 1/2, 1/4 or 1/8 of its size: several times faster than decoding all of it.

    Args:
        content: the file's bytes.
        min_longer_side_px: the longer side stays at or above this (or is the whole photo's).
        where: path or address for the error message.

    Returns:
        The photo as `decode_photo` gives it, perhaps smaller; and the whole photo's height and width as displayed.

    Raises:
        FileError: see `decode_photo`.
    """
    header = _read_header(content, where)
    stored_px = (header.stored_height_px, header.stored_width_px)
    factors = [factor for factor in _REDUCED if max(stored_px) / factor >= min_longer_side_px]
    if not header.is_jpeg or not factors:
        image_rgb = decode_photo(content, where=where)
        return image_rgb, (image_rgb.shape[0], image_rgb.shape[1])
    image_bgr = _decode_with_opencv(content, _REDUCED[max(factors)], where)
    # The stored size is without EXIF orientation, the decoded picture is with it.
    is_turned = (stored_px[0] > stored_px[1]) != (image_bgr.shape[0] > image_bgr.shape[1])
    size_px = (stored_px[1], stored_px[0]) if is_turned else stored_px
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8), size_px


def check_photo(content: bytes, *, where: object = None) -> None:
    """Checks that bytes are a whole photo that `decode_photo` reads; a JPEG costs about a third of decoding it.

    Raises:
        FileError: the bytes are not a picture, end too early, or make more than MAX_PIXELS pixels.
    """
    header = _read_header(content, where)
    if not header.is_jpeg:
        decode_photo(content, where=where)
    else:
        _decode_with_opencv(content, cv2.IMREAD_REDUCED_GRAYSCALE_8, where)


def photo_of_array(image: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Converts an array to a photo.

    Args:
        image: uint8 or uint16 (height, width) grey, or (height, width, channels): grey, grey and alpha, RGB, or RGBA.

    Returns:
        uint8 (height, width, 3), RGB; transparent parts on white, 16 bits scaled to 8.

    Raises:
        FileError: it has another shape or type.
    """
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype not in (np.uint8, np.uint16) or not image.size or channels not in _ARRAY_MODES:
        raise FileError(
            f"an array of shape {image.shape} and type {image.dtype} is no photo",
            code="unsupported_array",
            hint="give uint8 (height, width, 3), RGB",
        )
    levels = np.asarray(image if image.dtype == np.uint8 else image >> 8, np.uint8)
    if channels == 1:
        return np.asarray(cv2.cvtColor(levels.reshape(levels.shape[:2]), cv2.COLOR_GRAY2RGB), np.uint8)
    if channels == 3:
        return np.ascontiguousarray(levels)
    return _on_white(Image.fromarray(np.ascontiguousarray(levels), _ARRAY_MODES[channels]).convert("RGBA"))


def photo_of_pil(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow picture as it is displayed (EXIF orientation applied); its first frame where it is animated.

    Returns:
        uint8 (height, width, 3), RGB; transparent parts on white. 16-bit pictures are scaled, CMYK and grey converted.

    Raises:
        FileError: it cannot be decoded, or has 32 bits a pixel, whose white level is unknown.
    """
    if image.mode in _BOUNDLESS_MODES:
        raise FileError(
            f"a Pillow picture of mode '{image.mode}' (32 bits a pixel) is no photo",
            code="unsupported_mode",
            hint="scale its numbers to 8 bits and convert it to mode 'L'",
        )
    try:
        _load(image)
        turned = ImageOps.exif_transpose(image)
        if turned.mode.startswith("I;16"):
            return photo_of_array(np.asarray(turned, np.uint16))
        if turned.mode in _TRANSPARENT_MODES or "transparency" in turned.info:
            return _on_white(turned.convert("RGBA"))
        return np.array(turned.convert("RGB"), np.uint8)
    except _PILLOW_ERRORS as error:
        raise FileError(f"is damaged or cut off ({error})", code="damaged", hint=_HINT) from error


def _load(image: Image.Image) -> None:
    """Makes Pillow read a picture's pixels.

    Pillow 13.0 maps uncompressed TIFF files into memory and exchanges width and height of rotated ones, which garbles
    them. Without a file name it does not map them.
    """
    name = getattr(image, "filename", None)
    if image.format != "TIFF" or not name:
        return
    image.filename = ""  # type: ignore[attr-defined]
    try:
        image.load()
    finally:
        image.filename = name  # type: ignore[attr-defined]


def _read_header(content: bytes, where: object) -> _Header:
    """Looks at a file without decoding it."""
    if not content:
        raise FileError("is empty", code="empty", where=where, hint=_HINT)
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            n_pixels = image.width * image.height
            header = _Header(
                is_jpeg=image.format in _JPEG_FORMATS,
                is_png=image.format == "PNG",
                is_for_pillow=image.mode in _PILLOW_MODES or "transparency" in image.info,
                stored_width_px=image.width,
                stored_height_px=image.height,
            )
            if header.is_png and n_pixels <= MAX_PIXELS:
                image.verify()  # the checksums of its parts, before a decoder writes complaints of its own
    except Image.DecompressionBombError:
        n_pixels = MAX_PIXELS + 1
    except UnidentifiedImageError:
        raise FileError(
            "is not a picture (JPEG, PNG, WebP, BMP or TIFF)", code="not_an_image", where=where, hint=_HINT
        ) from None
    except _PILLOW_ERRORS as error:
        raise FileError(f"is damaged or cut off ({error})", code="damaged", where=where, hint=_HINT) from error
    if n_pixels > MAX_PIXELS:
        raise FileError(
            f"is too large to be a photo (more than {MAX_PIXELS // 1_000_000} million pixels)",
            code="too_large",
            where=where,
            hint=_HINT,
        )
    if (header.is_jpeg and not _is_whole_jpeg(content)) or (header.is_png and _END_OF_PNG not in content):
        raise FileError("is cut off: the end of the picture is missing", code="cut_short", where=where, hint=_HINT)
    return header


def _is_whole_jpeg(content: bytes) -> bool:
    """Whether a JPEG's end marker follows its picture data.

    The segments before the data are stepped over by their lengths: a preview among them has an end marker of its own.
    In the data a byte FF is followed by 00 or a restart marker, so the end marker cannot occur by chance (ITU T.81,
    B.1.1.5). What cameras put behind it does not matter.
    """
    position = 2
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return False
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a segment
            position += 2
        elif marker == 0xDA:  # start of scan: the data follow
            return content.find(_END_OF_JPEG, position) >= 0
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False


def _decode_with_opencv(content: bytes, flags: int, where: object) -> NDArray[np.uint8]:
    """The decoded picture, EXIF orientation applied."""
    image = None
    with suppress(cv2.error, MemoryError):
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise FileError("is not a picture that can be decoded", code="undecodable", where=where, hint=_HINT)
    return image  # type: ignore[return-value]


def _decode_on_white(content: bytes, where: object) -> NDArray[np.uint8]:
    """A picture with transparent parts on white, decoded by Pillow."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            turned = ImageOps.exif_transpose(image).convert("RGBA")
    except _PILLOW_ERRORS as error:
        raise FileError(f"is damaged or cut off ({error})", code="damaged", where=where, hint=_HINT) from error
    return _on_white(turned)


def _on_white(turned: Image.Image) -> NDArray[np.uint8]:
    white = Image.new("RGBA", turned.size, "white")
    return np.asarray(Image.alpha_composite(white, turned).convert("RGB"), np.uint8).copy()
