"""Photo files to arrays as displayed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.errors import FileError


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Reads a photo as it is displayed (EXIF orientation applied).

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        FileError: the file is missing or is not a picture that can be decoded.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise FileError("there is no such picture", where=path) from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", where=path) from error
    return decode_photo(content, where=path)


def decode_photo(content: bytes | NDArray[np.uint8], *, where: object = None) -> NDArray[np.uint8]:
    """Decodes the bytes of a photo (JPEG, PNG, WebP, …), EXIF orientation applied.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        FileError: the bytes are not a picture.
    """
    buffer = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content
    try:
        image_bgr = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
    except cv2.error:
        image_bgr = None
    if image_bgr is None:
        raise FileError("is not a picture that can be decoded", where=where, hint="remove or replace the file")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
