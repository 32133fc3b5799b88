"""Masks to COCO polygons: the visible part of each person, holes kept open by a one-pixel cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


MIN_AREA_PX = 120
_MIN_HOLE_PX = 40
_MIN_PIECE_PX = 20


def _open_holes(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask with a cut one pixel high from each large hole to the outside, as COCO polygons cannot have holes."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return mask
    opened = mask
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0], strict=True):
        if parent < 0 or cv2.contourArea(contour) < _MIN_HOLE_PX:
            continue
        if opened is mask:
            opened = mask.copy()
        x, y = (int(value) for value in contour[len(contour) // 2, 0])
        left, right = np.flatnonzero(mask[y, : x + 1] == 0), np.flatnonzero(mask[y, x:] == 0)
        outer = contours[parent][:, 0, :]
        row = outer[outer[:, 1] == y, 0]
        if len(row) == 0 or (len(left) == 0 and len(right) == 0):
            continue
        nearest = int(row[np.argmin(np.abs(row - x))])
        opened[y, min(nearest, x) : max(nearest, x) + 1] = 0
    return opened


def polygons(mask: NDArray[np.uint8]) -> list[list[float]]:
    """COCO polygons `[x, y, x, y, …]` (pixels) around a mask (h, w) of 0 and 255; small specks are left out."""
    contours, _ = cv2.findContours(_open_holes(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    result = []
    for contour in contours:
        if cv2.contourArea(contour) < _MIN_PIECE_PX:
            continue
        simple = cv2.approxPolyDP(contour, 0.7, True).reshape(-1, 2)
        if len(simple) >= 3:
            result.append([float(value) for value in simple.ravel()])
    return result


def annotation(mask: NDArray[np.uint8], category_id: int) -> dict[str, Any] | None:
    """A COCO annotation without ids for a visible mask; None for a person too small or hidden to count."""
    left, top, width, height = cv2.boundingRect(mask)
    # A margin of one pixel, so that no outline touches the edge of what is looked at.
    window = np.pad(mask[top : top + height, left : left + width], 1)
    area_px = int(cv2.countNonZero(window))
    if area_px < MIN_AREA_PX:
        return None
    segmentation = [_moved(polygon, left - 1, top - 1) for polygon in polygons(window)]
    if not segmentation:
        return None
    points = np.concatenate([np.array(polygon).reshape(-1, 2) for polygon in segmentation])
    low, high = points.min(axis=0), points.max(axis=0)
    return {
        "category_id": category_id,
        "segmentation": segmentation,
        "area": area_px,
        "bbox": [float(low[0]), float(low[1]), float(high[0] - low[0] + 1), float(high[1] - low[1] + 1)],
        "iscrowd": 0,
    }


def _moved(polygon: list[float], x: int, y: int) -> list[float]:
    return [value + (y if place % 2 else x) for place, value in enumerate(polygon)]
