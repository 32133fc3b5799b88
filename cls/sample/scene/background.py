"""Places photos are taken at: a larger picture of the place, drawn once a picset; each photo takes a window of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cls.sample.scene import indoors, nature, town

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cls.sample.scene.scenery import Scene

PAINTERS: dict[str, tuple[Callable[[np.random.Generator, int, int], Scene], float]] = {
    "street": (town.street, 0.28),
    "park": (nature.park, 0.2),
    "wall": (town.wall, 0.17),
    "room": (indoors.room, 0.2),
    "beach": (nature.beach, 0.08),
    "studio": (indoors.studio, 0.07),
}
"""Each kind of place: its painter and how often it is taken."""

MARGIN = 1.5
"""How much larger than a photo the drawn place is, on each side."""


DETAIL = 0.7
"""Pixels of a drawn place for a pixel of a photo at zoom 1: what is behind the people is out of focus anyway."""


@dataclass(frozen=True)
class Place:
    """A place: picture (RGB uint8), rows of horizon and first ground (photo pixels, zoom 1), mood of its light."""

    image_rgb: NDArray[np.uint8]
    horizon_y_px: float
    ground_y_px: float
    mood: str
    kind: str


def draw_place(rng: np.random.Generator, width_px: int, height_px: int) -> Place:
    """A place at random for photos of this size."""
    kind = str(rng.choice(list(PAINTERS), p=[p for _, p in PAINTERS.values()]))
    width, height = int(width_px * MARGIN * DETAIL), int(height_px * MARGIN * DETAIL)
    painter, _ = PAINTERS[kind]
    scene = painter(rng, width, height)
    focus_px = float(rng.uniform(0.5, 1.7)) * DETAIL * height_px / 480
    image_rgb = cv2.GaussianBlur(np.clip(scene.image_rgb, 0, 255).astype(np.uint8), (0, 0), focus_px)
    return Place(
        image_rgb=np.asarray(image_rgb, np.uint8),
        horizon_y_px=scene.horizon_y_px / DETAIL,
        ground_y_px=scene.ground_y_px / DETAIL,
        mood=scene.mood,
        kind=kind,
    )


def view(
    place: Place, width_px: int, height_px: int, zoom: float, centre_x: float, horizon_y_px: float
) -> NDArray[np.uint8]:
    """The window of a place that a photo shows, (height, width, 3) uint8 RGB.

    Args:
        place: Where the photo is taken.
        width_px: Width of the photo.
        height_px: Height of the photo.
        zoom: How much nearer than usual the place seems.
        centre_x: Where across the place the photo looks, 0..1.
        horizon_y_px: The photo's row of the horizon.
    """
    source = place.image_rgb
    scale = zoom / DETAIL
    left = centre_x * source.shape[1] - width_px / 2 / scale
    matrix = np.array([[scale, 0, -left * scale], [0, scale, horizon_y_px - place.horizon_y_px * zoom]])
    window = cv2.warpAffine(
        source, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(window, np.uint8)
