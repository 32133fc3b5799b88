"""Places indoors: a furnished room, a photographer's backdrop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cls.sample.curves import ellipse, smooth_closed
from cls.sample.figure import palette
from cls.sample.scene.ground import fill, foliage, gradient, lay_ground, noise_over, rectangle
from cls.sample.scene.scenery import Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cls.sample.canvas import Colour
    from cls.sample.curves import Points


_WALLS: list[Colour] = [
    (222, 212, 196),
    (190, 202, 204),
    (206, 190, 176),
    (176, 186, 168),
    (214, 206, 214),
    (160, 172, 186),
]


def _plant(
    image: NDArray[np.float32], rng: np.random.Generator, x: float, foot: float, size: float, pot: Colour
) -> None:
    """A potted plant on the floor."""
    fill(image, ellipse((x, foot + 1), size * 0.36, size * 0.07), (60, 54, 50))
    fill(image, np.array([(-0.26, -0.5), (0.26, -0.5), (0.19, 0.0), (-0.19, 0.0)]) * size + (x, foot), pot)
    fill(
        image,
        np.array([(-0.28, -0.56), (0.28, -0.56), (0.28, -0.47), (-0.28, -0.47)]) * size + (x, foot),
        palette.scaled(pot, 0.8),
    )
    foliage(image, rng, (x, foot - size * 1.05), size * 0.48, size * 0.6, (70, 112, 60))


def _window(image: NDArray[np.float32], rng: np.random.Generator, x: float, w: float) -> None:
    """A window with curtains."""
    height, width = image.shape[:2]
    rectangle(image, x - 8, height * 0.06, x + w + 8, height * 0.44, (240, 238, 232))
    for half in (0, 1):
        x0, x1 = int(x + half * w / 2 + 3), int(x + (half + 1) * w / 2 - 3)
        y0, y1 = int(height * 0.06) + 9, int(height * 0.44) - 9
        part = image[y0:y1, max(x0, 0) : min(x1, width)]
        part[:] = gradient(part.shape[1], part.shape[0], (206, 228, 246), (236, 240, 230))
    curtain = palette.pick(rng, palette.KNITWEAR)
    for edge in (x - 22, x + w - 2):
        for strip in range(4):
            left, tone = edge + strip * 6, 0.8 + 0.12 * (strip % 2)
            rectangle(image, left, height * 0.03, left + 6, height * 0.56, palette.scaled(curtain, tone))


def _picture(image: NDArray[np.float32], rng: np.random.Generator, x: float, w: float) -> None:
    """A framed picture of hills."""
    height = image.shape[0]
    rectangle(image, x, height * 0.14, x + w * 0.8, height * 0.36, palette.pick(rng, palette.LEATHER))
    rectangle(image, x + 6, height * 0.14 + 6, x + w * 0.8 - 6, height * 0.36 - 6, (238, 234, 226))
    ridge = [(0.1, 0.33), (0.25, 0.2), (0.5, 0.28), (0.68, 0.2), (0.72, 0.33)]
    hills = smooth_closed([(x + u * w, height * v) for u, v in ridge], 3)
    fill(image, hills, palette.pick(rng, palette.KNITWEAR))


def _bookcase(image: NDArray[np.float32], rng: np.random.Generator, x: float, w: float) -> None:
    """A bookcase full of books."""
    height = image.shape[0]
    bottom, step = height * 0.63, height * 0.104
    wood = palette.pick(rng, palette.LEATHER)
    rectangle(image, x, height * 0.1, x + w, bottom, palette.scaled(wood, 0.55))
    for shelf in range(5):
        y = height * 0.1 + step * shelf
        rectangle(image, x, y, x + w, y + 5, wood)
        book_x = x + 6
        while book_x < x + w - 14:
            thick, tall = float(rng.uniform(5, 12)), float(rng.uniform(0.05, 0.085)) * height
            rectangle(image, book_x, y + step - tall, book_x + thick, y + step, palette.pick(rng, palette.KNITWEAR))
            book_x += thick + 1
    for edge in (x, x + w):
        rectangle(image, edge - 3, height * 0.1, edge + 3, bottom, wood)


def _cushion(x0: float, y0: float, x1: float, y1: float) -> Points:
    """A box with round corners."""
    r = min(x1 - x0, y1 - y0) * 0.3
    across, down = [(x0 + r, y0), (x1 - r, y0)], [(x1, y0 + r), (x1, y1 - r)]
    return smooth_closed([*across, *down, (x1 - r, y1), (x0 + r, y1), (x0, y1 - r), (x0, y0 + r)], 3)


def _sofa(image: NDArray[np.float32], rng: np.random.Generator, ground: float) -> None:
    height, width = image.shape[:2]
    colour, x, w = palette.pick(rng, palette.SKIRTS), float(rng.uniform(0.05, 0.6)) * width, width * 0.32
    y = ground + height * 0.03
    fill(image, ellipse((x + w / 2, y + 12), w * 0.54, 8), (70, 62, 56))
    tall, low = height * 0.17, height * 0.07
    fill(image, _cushion(x, y - tall, x + w, y), palette.scaled(colour, 0.8))
    fill(image, _cushion(x - 8, y - low, x + w + 8, y + 10), colour)
    for edge in (x - 14, x + w - 6):
        fill(image, _cushion(edge, y - low * 1.5, edge + 20, y + 10), palette.scaled(colour, 0.9))
    rectangle(image, x + w / 2 - 1, y - height * 0.07, x + w / 2 + 1, y + 4, palette.scaled(colour, 0.8))


def room(rng: np.random.Generator, width: int, height: int) -> Scene:
    """An interior: wall and floor, windows, pictures, bookcases and plants, perhaps a sofa."""
    horizon, ground = height * 0.44, height * 0.63
    colour = palette.pick(rng, _WALLS)
    image = gradient(width, height, palette.scaled(colour, 0.92), colour)
    noise_over(image, rng, 90, 0.03)
    if rng.random() < 0.4:
        panel = palette.mixed(colour, (244, 242, 238), 0.5)
        rectangle(image, 0, height * 0.48, width, ground, panel)
        rectangle(image, 0, height * 0.475, width, height * 0.487, palette.scaled(panel, 0.86))
    plants: list[float] = []
    for slot in rng.permutation(5)[: int(rng.integers(2, 5))]:
        x, choice = (0.04 + slot * 0.2 + float(rng.uniform(0, 0.04))) * width, int(rng.integers(4))
        if choice < 3:
            (_window, _picture, _bookcase)[choice](image, rng, x, 0.15 * width)
        else:
            plants.append(x + 0.075 * width)
    wood = palette.pick(rng, [(170, 128, 88), (140, 100, 68), (190, 160, 124), (150, 146, 142)])
    rectangle(image, 0, ground - 9, width, ground, (236, 232, 226))
    floor = str(rng.choice(["planks", "planks", "checker", "tiles", "plain"]))
    lay_ground(image, floor, wood, horizon, ground, 0.22, rng)
    image[int(ground) : int(ground) + 8] *= 0.8
    if rng.random() < 0.45:
        _sofa(image, rng, ground)
    for x in plants:
        _plant(image, rng, x, ground + height * 0.03, 0.15 * width, palette.pick(rng, palette.LEATHER))
    return Scene(image, horizon, ground + height * 0.05, "indoor")


def studio(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A photographer's backdrop that curves into the floor."""
    colour = palette.pick(rng, [(196, 196, 198), (150, 160, 172), (206, 190, 172), (120, 126, 132), (176, 188, 178)])
    horizon = height * 0.44
    image = gradient(width, height, palette.scaled(colour, 0.82), palette.scaled(colour, 1.08))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    glow = np.exp(-(((x / width - 0.5) * 2.2) ** 2 + ((y / height - 0.4) * 2.4) ** 2))
    image *= (0.86 + 0.24 * glow)[:, :, None]
    noise_over(image, rng, 50, 0.025)
    return Scene(image, horizon, height * 0.6, "indoor")
