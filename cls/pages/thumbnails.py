"""Pictures inside a page: small JPEG files as `data:` URLs."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

_JPEG_QUALITY = 86


def jpeg_bytes(image_rgb: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 (height, width, 3), as a JPEG file."""
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    return encoded.tobytes()


def jpeg_url(jpeg: bytes) -> str:
    """A JPEG file as a URL that holds all of it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def picture_url(image_rgb: NDArray[np.uint8], width_px: int = 160) -> str:
    """A picture as a URL that holds a copy of it, at most `width_px` wide.

    Args:
        image_rgb: uint8 (height, width, 3).
        width_px: of the copy, at most.
    """
    height_px, own_width_px = image_rgb.shape[:2]
    if own_width_px > width_px:
        size = (width_px, max(round(height_px * width_px / own_width_px), 1))
        image_rgb = np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return jpeg_url(jpeg_bytes(image_rgb))
