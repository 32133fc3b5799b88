"""Polygons (fractions of a picture's size) to masks, and back."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_SUBPIXEL_BITS = 4
# OpenCV's fixed-point coordinates hold a little more than this.
_MAX_COORDINATE_PX = 100_000.0


def mask_of_polygons(
    polygons_xy_rel: Sequence[NDArray[np.float64]], height_px: int, width_px: int
) -> NDArray[np.uint8]:
    """Draws polygons as a mask.

    Args:
        polygons_xy_rel: outlines, each (points, 2), fractions of width and height; values outside 0..1 are clipped by
            the picture's edge. Parts that overlap add up (union).
        height_px: height of the mask.
        width_px: width of the mask.

    Returns:
        uint8 of shape (height_px, width_px), 255 inside, 0 outside.
    """
    scale = np.array([width_px, height_px], np.float64)
    return draw_polygons([polygon * scale for polygon in polygons_xy_rel], height_px, width_px)


def draw_polygons(polygons_xy_px: Sequence[NDArray[np.float64]], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Draws polygons given in pixels as a mask; see `mask_of_polygons`.

    Args:
        polygons_xy_px: outlines, each (points, 2); (0, 0) is the upper left corner of the upper left pixel.
        height_px: height of the mask.
        width_px: width of the mask.

    Returns:
        uint8 of shape (height_px, width_px), 255 inside, 0 outside.
    """
    mask = np.zeros((height_px, width_px), np.uint8)
    for polygon in polygons_xy_px:
        if len(polygon) < 3:
            continue
        # A pixel's centre is at +0.5, OpenCV's integer coordinates are pixel centres.
        points = np.clip(polygon - 0.5, -_MAX_COORDINATE_PX, _MAX_COORDINATE_PX)
        fixed = np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [fixed.reshape(-1, 1, 2)], color=(255,), lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
    return mask


def polygons_of_mask(
    mask: NDArray[np.uint8], *, tolerance_px: float = 1.0, min_area_px: float = 16.0
) -> list[NDArray[np.float64]]:
    """Outlines the parts of a mask (holes are filled).

    Args:
        mask: (height, width), non-zero inside.
        tolerance_px: how far an outline may stray from the mask's edge.
        min_area_px: parts smaller than this are left out.

    Returns:
        Polygons of shape (points, 2) in fractions of width and height, largest part first.
    """
    height_px, width_px = mask.shape
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    sized = sorted(((cv2.contourArea(c), i) for i, c in enumerate(contours)), reverse=True)
    polygons = []
    for area_px, index in sized:
        if area_px < min_area_px:
            break
        outline = cv2.approxPolyDP(contours[index], tolerance_px, closed=True).reshape(-1, 2)
        if len(outline) >= 3:
            polygons.append((outline.astype(np.float64) + 0.5) / np.array([width_px, height_px], np.float64))
    return polygons
