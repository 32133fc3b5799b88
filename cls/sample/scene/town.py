"""Places in a town: a street of houses, an outside wall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cls.sample.curves import ellipse, smooth_closed
from cls.sample.figure import palette
from cls.sample.scene.ground import fill, foliage, gradient, lay_ground, lay_wall, noise_over, rectangle, sky
from cls.sample.scene.scenery import LEAVES, Scene, dim, draw_mood, paint_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cls.sample.canvas import Colour


_FACADES: list[Colour] = [
    (196, 172, 146),
    (168, 110, 88),
    (206, 200, 190),
    (150, 150, 152),
    (212, 188, 150),
    (132, 100, 84),
    (176, 186, 190),
    (198, 150, 130),
]


def _facade(
    image: NDArray[np.float32], rng: np.random.Generator, x0: int, x1: int, y0: int, y1: int, mood: str
) -> None:
    """One house front with rows of windows and a shop below."""
    colour = palette.pick(rng, _FACADES)
    lay_wall(image, str(rng.choice(["bricks", "plain", "plain"])), colour, y0, y1, 1.6, x0, x1)
    shop_y = y1 - int(0.16 * image.shape[0])
    columns, rows = max(int((x1 - x0) / rng.uniform(44, 66)), 2), max(int((shop_y - y0) / rng.uniform(62, 84)), 1)
    step_x, step_y = (x1 - x0) / columns, (shop_y - y0) / rows
    trim = palette.scaled(colour, float(rng.choice([0.7, 1.25])))
    for row in range(rows):
        for column in range(columns):
            wx0, wy0 = x0 + step_x * (column + 0.26), y0 + step_y * (row + 0.22)
            wx1, wy1 = x0 + step_x * (column + 0.74), y0 + step_y * (row + 0.84)
            is_on = rng.random() < (0.45 if mood == "evening" else 0.06)
            glass = palette.varied(rng, (250, 206, 130) if is_on else (92, 108, 124), 0.18)
            rectangle(image, wx0 - 3, wy0 - 3, wx1 + 3, wy1 + 4, trim)
            rectangle(image, wx0, wy0, wx1, wy1, glass)
            rectangle(image, wx0, wy0, wx1, wy0 + (wy1 - wy0) * 0.18, palette.scaled(glass, 0.7))
            rectangle(image, (wx0 + wx1) / 2 - 1, wy0, (wx0 + wx1) / 2 + 1, wy1, trim)
    rectangle(image, x0, y0, x1, y0 + 7, palette.scaled(colour, 0.66))
    rectangle(image, x0, shop_y, x1, y1, palette.scaled(colour, 0.6))
    awning = palette.pick(rng, palette.KNITWEAR)
    door = rng.integers(columns)
    for column in range(columns):
        wx0, wx1 = x0 + step_x * column + 6, x0 + step_x * (column + 1) - 6
        glass = palette.varied(rng, (240, 214, 160) if mood == "evening" else (126, 136, 140), 0.15)
        rectangle(
            image,
            wx0,
            shop_y + 16,
            wx1,
            y1 if column == door else y1 - 14,
            palette.scaled(awning, 0.5) if column == door else glass,
        )
    fill(
        image,
        np.array([(x0 + 4, shop_y), (x1 - 4, shop_y), (x1 + 2, shop_y + 17), (x0 - 2, shop_y + 17)], float),
        awning,
    )
    shadow = image[y0:y1, max(x1 - 5, 0) : x1]
    shadow *= 0.7


def _car(image: NDArray[np.float32], rng: np.random.Generator, x: float, y: float, length: float) -> None:
    colour = palette.pick(
        rng, [(150, 34, 36), (40, 60, 110), (220, 220, 222), (40, 42, 46), (120, 126, 130), (180, 170, 150)]
    )
    fill(image, ellipse((x, y + 2), length * 0.52, length * 0.05), (44, 44, 46))
    body = smooth_closed(
        [
            (-0.5, -0.04),
            (-0.5, -0.17),
            (-0.32, -0.21),
            (-0.2, -0.34),
            (0.14, -0.34),
            (0.28, -0.21),
            (0.47, -0.17),
            (0.5, -0.05),
            (0.3, -0.02),
            (-0.3, -0.02),
        ],
        3,
    )
    glass = smooth_closed([(-0.27, -0.21), (-0.17, -0.31), (0.12, -0.31), (0.22, -0.21)], 2)
    fill(image, body * length + (x, y), colour)
    fill(image, glass * length + (x, y), (70, 84, 96))
    for wheel in (-0.3, 0.3):
        fill(image, ellipse((x + wheel * length, y - 0.03 * length), 0.085 * length, 0.085 * length), (28, 28, 30))
        fill(image, ellipse((x + wheel * length, y - 0.03 * length), 0.045 * length, 0.045 * length), (150, 150, 152))


def street(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A street: house fronts, a pavement, trees, lamps, perhaps parked cars."""
    mood = draw_mood(rng)
    horizon, ground = height * 0.46, height * 0.56
    image = sky(rng, width, height, mood)
    front = image.copy()
    x = int(rng.uniform(-80, 0))
    while x < width:
        end = x + int(rng.uniform(0.2, 0.42) * width)
        if rng.random() < 0.14 and x > 0:
            foliage(
                front,
                rng,
                ((x + end) / 2, ground - height * 0.14),
                (end - x) * 0.6,
                height * 0.17,
                palette.pick(rng, LEAVES),
            )
        else:
            top = int(ground - rng.uniform(0.34, 0.75) * height)
            _facade(front, rng, max(x, 0), min(end, width), max(top, 0), int(ground), mood)
        x = end
    kerb = height * 0.62
    lay_ground(front, "plain", (104, 104, 106), horizon, ground, 0.12, rng)
    for _ in range(int(rng.integers(0, 4))):
        _car(front, rng, float(rng.uniform(0, width)), kerb - 2, 0.26 * width)
    rectangle(front, 0, kerb - 2, width, kerb + 4, (170, 168, 164))
    lay_ground(front, "paving", palette.varied(rng, (176, 170, 162), 0.08), horizon, kerb + 4, 0.2, rng)
    for _ in range(int(rng.integers(0, 3))):
        paint_tree(front, rng, float(rng.uniform(0, width)), kerb + 8, height * 0.34)
    if rng.random() < 0.5:
        lamp_x = float(rng.uniform(0.1, 0.9)) * width
        rectangle(front, lamp_x - 3, height * 0.1, lamp_x + 3, kerb + 10, (52, 54, 58))
        fill(front, ellipse((lamp_x, height * 0.1), 14, 9), (250, 232, 180))
    changed = np.abs(front - image).sum(axis=2) > 0
    dim(front, mood)
    image[changed] = front[changed]
    return Scene(image, horizon, kerb + 6, mood)


def wall(rng: np.random.Generator, width: int, height: int) -> Scene:
    """An outside wall of brick, plaster or tile above a pavement, perhaps with a window, a poster or ivy."""
    mood = draw_mood(rng)
    horizon, ground = height * 0.44, height * 0.66
    image = gradient(width, height, (200, 200, 200), (180, 180, 180))
    name = str(rng.choice(["bricks", "plain", "tiles", "bricks"]))
    colours: list[Colour] = (
        [(158, 92, 72), (186, 130, 104), (150, 140, 130)]
        if name == "bricks"
        else [(214, 200, 172), (178, 190, 196), (206, 170, 150), (186, 186, 182), (150, 166, 150)]
    )
    lay_wall(image, name, palette.pick(rng, colours), 0, int(ground), 1.15 if name == "bricks" else 0.8)
    noise_over(image, rng, 60, 0.05)
    for _ in range(int(rng.integers(0, 3))):
        x = float(rng.uniform(0.05, 0.85)) * width
        if rng.random() < 0.5:
            rectangle(image, x - 8, height * 0.08, x + 0.15 * width + 8, height * 0.42, (226, 222, 214))
            image[int(height * 0.08) + 8 : int(height * 0.42) - 8, int(x) : int(x + 0.15 * width)] = gradient(
                int(x + 0.15 * width) - int(x),
                int(height * 0.42) - int(height * 0.08) - 16,
                (120, 140, 156),
                (84, 96, 106),
            )[:, : max(min(int(x + 0.15 * width), width) - int(x), 0)]
            rectangle(image, x + 0.073 * width, height * 0.08, x + 0.079 * width, height * 0.42, (226, 222, 214))
        else:
            poster = palette.pick(rng, palette.KNITWEAR)
            rectangle(image, x, height * 0.16, x + 0.12 * width, height * 0.42, (234, 230, 222))
            rectangle(image, x + 6, height * 0.17, x + 0.12 * width - 6, height * 0.34, poster)
            fill(
                image,
                ellipse((x + 0.06 * width, height * 0.26), 0.035 * width, 0.05 * height),
                palette.scaled(poster, 1.4),
            )
    if rng.random() < 0.35:
        x = float(rng.choice([0.02, 0.98])) * width
        foliage(image, rng, (x, height * 0.3), width * 0.12, height * 0.36, palette.pick(rng, LEAVES))
    rectangle(image, 0, ground - 12, width, ground, (120, 116, 110))
    lay_ground(
        image,
        str(rng.choice(["paving", "plain"])),
        palette.varied(rng, (168, 164, 158), 0.1),
        horizon,
        ground,
        0.2,
        rng,
    )
    image[int(ground) : int(ground) + 10] *= 0.72
    dim(image, mood)
    return Scene(image, horizon, ground + 6, mood)
