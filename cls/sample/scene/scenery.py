"""What all places outside have in common: the drawn scene, the mood of its light, trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cls.sample.figure import palette
from cls.sample.scene.ground import fill, foliage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cls.sample.canvas import Colour


@dataclass
class Scene:
    """A drawn place: picture (float RGB), horizon row, first row of the ground, mood of the light."""

    image_rgb: NDArray[np.float32]
    horizon_y_px: float
    ground_y_px: float
    mood: str


LEAVES: list[Colour] = [(74, 110, 52), (92, 124, 56), (58, 92, 54), (150, 126, 50), (104, 120, 70)]


def draw_mood(rng: np.random.Generator) -> str:
    """The light outside: day, overcast or evening."""
    return str(rng.choice(["day", "overcast", "evening"], p=[0.55, 0.25, 0.2]))


def dim(image: NDArray[np.float32], mood: str) -> None:
    """Evening takes light from everything that is not sky."""
    if mood == "evening":
        image *= np.array((0.74, 0.66, 0.68), np.float32)
    elif mood == "overcast":
        image *= np.array((0.9, 0.92, 0.94), np.float32)


def paint_tree(image: NDArray[np.float32], rng: np.random.Generator, x: float, ground_y: float, size: float) -> None:
    """A tree standing at (x, ground_y), `size` pixels to its crown."""
    trunk = np.array(
        [
            (x - size * 0.05, ground_y),
            (x - size * 0.03, ground_y - size),
            (x + size * 0.03, ground_y - size),
            (x + size * 0.05, ground_y),
        ]
    )
    fill(image, trunk, (78, 62, 48))
    foliage(image, rng, (x, ground_y - size * 1.15), size * 0.5, size * 0.5, palette.pick(rng, LEAVES))
