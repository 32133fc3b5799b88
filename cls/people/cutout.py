"""A person cut out of a photo: the photo around the box, and a mask of who is meant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.people.photos import Person
from cls.people.polygons import UNITS_PER_PX, draw_polygons, fill_outlines, in_units

# What new runs are made with; runs and packages that name none keep version 1.
PREPROCESSING_VERSION = 2


@dataclass(frozen=True)
class Cutout:
    """Pixels around one person.

    Attributes:
        image_rgb: uint8 (height, width, 3).
        mask: uint8 (height, width), 255 where the person is.
        left_px: column of the photo that the first column is.
        top_px: row of the photo that the first row is.
    """

    image_rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    left_px: int = 0
    top_px: int = 0


def cut_out(
    image_rgb: NDArray[np.uint8],
    person: Person,
    *,
    margin_rel: float = 0.05,
    version: int = PREPROCESSING_VERSION,
) -> Cutout:
    """Cuts a person out of a photo.

    The frame is the box around the person's polygons (the model's box where there are none), widened on each side by
    `margin_rel` of its longer side, rounded outwards to whole pixels and cut off at the photo's edge. The mask is what
    `fill_outlines` says, in whole units of 1/256 pixel. Version 1 counts in floating point, and its mask holds the
    pixels that the outline touches besides, as OpenCV's fillPoly draws them.

    Args:
        image_rgb: uint8 (height, width, 3), the photo as displayed.
        person: whom to cut out.
        margin_rel: how much of the surroundings is kept, as a fraction of the longer side.
        version: of the preprocessing.

    Returns:
        The cut-out, at the photo's resolution, at least 1x1 pixels; its pixels may be a view of the photo's. A person
        without a usable polygon gets a mask of the whole box.
    """
    height_px, width_px = image_rgb.shape[:2]
    scale = np.array([width_px, height_px], np.float64)
    outlines = [polygon * scale for polygon in person.polygons_xy_rel if len(polygon) >= 3]
    if not outlines:
        left, top, right, bottom = person.box_xyxy_px
        outlines = [np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)]
    if version == 1:
        x0, y0, x1, y1 = _frame_of_floats(outlines, height_px, width_px, margin_rel)
        # Drawn in the frame alone: a person is often a small part of a large photo.
        mask = draw_polygons([outline - (x0, y0) for outline in outlines], y1 - y0, x1 - x0)
    else:
        units = [in_units(outline) for outline in outlines]
        x0, y0, x1, y1 = _frame(units, height_px, width_px, margin_rel)
        offset = np.array([x0, y0], np.int64) * UNITS_PER_PX
        mask = fill_outlines([outline - offset for outline in units], y1 - y0, x1 - x0)
    return Cutout(image_rgb[y0:y1, x0:x1], mask, x0, y0)


def _frame(
    outlines: list[NDArray[np.int64]], height_px: int, width_px: int, margin_rel: float
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the cut-out in pixels, of outlines in units."""
    points = np.concatenate(outlines)
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    margin = math.floor(margin_rel * max(right - left, bottom - top) + 0.5)
    x0 = min(max((left - margin) // UNITS_PER_PX, 0), width_px - 1)
    y0 = min(max((top - margin) // UNITS_PER_PX, 0), height_px - 1)
    x1 = min(max(-(-(right + margin) // UNITS_PER_PX), x0 + 1), width_px)
    y1 = min(max(-(-(bottom + margin) // UNITS_PER_PX), y0 + 1), height_px)
    return x0, y0, x1, y1


def _frame_of_floats(
    outlines: list[NDArray[np.float64]], height_px: int, width_px: int, margin_rel: float
) -> tuple[int, int, int, int]:
    """The same of version 1, of outlines in pixels."""
    points = np.concatenate(outlines)
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    margin_px = margin_rel * max(right - left, bottom - top)
    x0 = int(np.clip(np.floor(left - margin_px), 0, width_px - 1))
    y0 = int(np.clip(np.floor(top - margin_px), 0, height_px - 1))
    x1 = int(np.clip(np.ceil(right + margin_px), x0 + 1, width_px))
    y1 = int(np.clip(np.ceil(bottom + margin_px), y0 + 1, height_px))
    return x0, y0, x1, y1


def resize_cutout(cutout: Cutout, height_px: int, width_px: int, *, version: int = PREPROCESSING_VERSION) -> Cutout:
    """Picture and mask at another size; the mask's edge becomes soft (0..255).

    Shrinking averages over areas, enlarging interpolates linearly between the pixels' centres and rounds halves
    upwards. Version 1 interpolates with OpenCV's weights of 11 bits, which other libraries do not have.
    """
    source_height_px, source_width_px = cutout.mask.shape
    is_shrunk = height_px <= source_height_px and width_px <= source_width_px
    resized = [
        _shrunk(levels, height_px, width_px) if is_shrunk else _enlarged(levels, height_px, width_px, version)
        for levels in (cutout.image_rgb, cutout.mask)
    ]
    return Cutout(resized[0], resized[1])


def _shrunk(levels: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(levels, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)


def _enlarged(levels: NDArray[np.uint8], height_px: int, width_px: int, version: int) -> NDArray[np.uint8]:
    source = levels if version == 1 else levels.astype(np.float32)
    enlarged = cv2.resize(source, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged if version == 1 else enlarged + np.float32(0.5), np.uint8)


def on_flat_background(cutout: Cutout, color_rgb: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The person on a flat colour, blended by the mask: a half-transparent edge stays soft.

    Returns:
        uint8 (height, width, 3): (pixel * mask + colour * (255 - mask)) / 255, rounded.
    """
    # Three equal channels and work in place: twice as fast as broadcasting one mask.
    mask = cv2.cvtColor(cutout.mask, cv2.COLOR_GRAY2RGB).astype(np.uint16)
    blended = cutout.image_rgb * mask
    flat = np.empty_like(mask)
    flat[:] = color_rgb
    flat *= np.subtract(255, mask, out=mask)
    blended += flat
    # x / 255 rounded, in whole numbers: exact for all that occur, and the same on every machine.
    blended += 128
    blended += blended >> 8
    blended >>= 8
    return blended.astype(np.uint8)
