"""Places photos are taken at: a larger picture of the place, drawn once a picset; each photo takes a window of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cls.sample import scenery

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 1.5
"""How much larger than a photo the drawn place is, on each side."""


@dataclass(frozen=True)
class Place:
    """A place: its picture (RGB uint8), the row of its horizon, the row where the ground begins, its light's mood."""

    image_rgb: NDArray[np.uint8]
    horizon_y_px: float
    ground_y_px: float
    mood: str
    kind: str


def draw_place(rng: np.random.Generator, width_px: int, height_px: int) -> Place:
    """A place at random for photos of this size."""
    kind = str(rng.choice(list(scenery.PAINTERS), p=[p for _, p in scenery.PAINTERS.values()]))
    width, height = int(width_px * MARGIN), int(height_px * MARGIN)
    painter, _ = scenery.PAINTERS[kind]
    scene = painter(rng, width, height)
    return Place(
        image_rgb=np.clip(scene.image_rgb, 0, 255).astype(np.uint8),
        horizon_y_px=scene.horizon_y_px,
        ground_y_px=scene.ground_y_px,
        mood=scene.mood,
        kind=kind,
    )


def view(
    place: Place, width_px: int, height_px: int, zoom: float, centre_x: float, horizon_y_px: float, blur_px: float
) -> NDArray[np.uint8]:
    """The window of a place that a photo shows, (height, width, 3) uint8 RGB.

    Args:
        place: Where the photo is taken.
        width_px, height_px: Size of the photo.
        zoom: Photo pixels for each pixel of the place.
        centre_x: Where across the place the photo looks, 0..1.
        horizon_y_px: The photo's row of the horizon.
        blur_px: Blur of what is far behind the people.
    """
    source = place.image_rgb
    left = centre_x * source.shape[1] - width_px / 2 / zoom
    matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, horizon_y_px - place.horizon_y_px * zoom]])
    window = cv2.warpAffine(
        source, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    if blur_px >= 0.5:
        window = cv2.GaussianBlur(window, (0, 0), blur_px)
    return np.asarray(window, np.uint8)
