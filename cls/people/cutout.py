"""A person cut out of a photo: the photo around the box, and a mask of who is meant."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.people.person import Person
from cls.people.polygons import mask_of_polygons


@dataclass(frozen=True)
class Cutout:
    """Pixels around one person.

    Attributes:
        image_rgb: uint8 (height, width, 3).
        mask: uint8 (height, width), 255 where the person is.
    """

    image_rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def cut_out(image_rgb: NDArray[np.uint8], person: Person, *, margin_rel: float = 0.05) -> Cutout:
    """Cuts a person out of a photo.

    The frame is the box around the person's polygons (the model's box where there are none), widened on each side by
    `margin_rel` of its longer side and cut off at the photo's edge.

    Args:
        image_rgb: uint8 (height, width, 3), the photo as displayed.
        person: whom to cut out.
        margin_rel: how much of the surroundings is kept, as a fraction of the longer side.

    Returns:
        The cut-out, at the photo's resolution, at least 1x1 pixels. A person without a usable polygon gets a mask of
        the whole box.
    """
    height_px, width_px = image_rgb.shape[:2]
    polygons = [polygon for polygon in person.polygons_xy_rel if len(polygon) >= 3]
    if polygons:
        points = np.concatenate(polygons) * (width_px, height_px)
        left, top = points.min(axis=0)
        right, bottom = points.max(axis=0)
    else:
        left, top, right, bottom = person.box_xyxy_px
    margin_px = margin_rel * max(right - left, bottom - top)
    x0 = int(np.clip(np.floor(left - margin_px), 0, width_px - 1))
    y0 = int(np.clip(np.floor(top - margin_px), 0, height_px - 1))
    x1 = int(np.clip(np.ceil(right + margin_px), x0 + 1, width_px))
    y1 = int(np.clip(np.ceil(bottom + margin_px), y0 + 1, height_px))
    if polygons:
        mask = mask_of_polygons(polygons, height_px, width_px)[y0:y1, x0:x1]
    else:
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        box = np.array([left - x0, top - y0, right - x0, bottom - y0])
        bx0, by0, bx1, by1 = np.round(box).astype(int)
        mask[max(by0, 0) : max(by1, 1), max(bx0, 0) : max(bx1, 1)] = 255
    return Cutout(np.ascontiguousarray(image_rgb[y0:y1, x0:x1]), np.ascontiguousarray(mask))


def on_flat_background(cutout: Cutout, color_rgb: tuple[int, int, int], *, soft_px: float = 1.0) -> NDArray[np.uint8]:
    """The person on a flat colour, with a soft edge.

    Args:
        cutout: pixels and mask.
        color_rgb: the colour around the person.
        soft_px: standard deviation of the mask's blur; 0 for a hard edge.

    Returns:
        uint8 (height, width, 3).
    """
    mask = cv2.GaussianBlur(cutout.mask, (0, 0), soft_px) if soft_px > 0 else cutout.mask
    weight = mask.astype(np.float32)[..., None] / 255
    flat = np.array(color_rgb, np.float32)
    return np.asarray(np.round(cutout.image_rgb * weight + flat * (1 - weight)), np.uint8)
