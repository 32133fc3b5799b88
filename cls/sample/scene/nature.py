"""Places in the open: a park, a beach."""

from __future__ import annotations

import cv2
import numpy as np

from cls.sample.curves import ellipse, smooth_open
from cls.sample.figure import palette
from cls.sample.scene.ground import fill, foliage, gradient, lay_ground, noise_over, sky
from cls.sample.scene.scenery import LEAVES, Scene, dim, draw_mood, paint_tree


def park(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A park: far hills, a line of trees, grass, a path, a few trunks nearby."""
    mood = draw_mood(rng)
    horizon, ground = height * 0.47, height * 0.5
    image = sky(rng, width, height, mood)
    front = image.copy()
    xs = np.linspace(-20, width + 20, 12)
    ridge = smooth_open([(x, horizon - rng.uniform(0.04, 0.14) * height) for x in xs])
    fill(front, np.concatenate([ridge, [(width + 20, ground + 4), (-20, ground + 4)]]), (132, 152, 150))
    for depth, tone in ((0.12, 0.8), (0.17, 1.0)):
        colour = palette.scaled(palette.pick(rng, LEAVES), tone)
        for x in np.arange(-30, width + 60, width * 0.075):
            size = height * depth * rng.uniform(0.7, 1.25)
            foliage(
                front,
                rng,
                (float(x + rng.uniform(-20, 20)), ground - size * 0.7),
                size * 0.75,
                size,
                palette.varied(rng, colour, 0.12),
            )
    grass = palette.varied(rng, (112, 138, 66), 0.1)
    lay_ground(front, "grass", grass, horizon, ground, 0.35, rng, (150, 166, 110))
    if rng.random() < 0.7:
        bend = float(rng.uniform(-0.5, 0.5)) * width
        centre = width * float(rng.uniform(0.35, 0.65))
        left = smooth_open(
            [
                (centre + bend - 8, ground + 2),
                (centre + bend * 0.4 - width * 0.1, height * 0.66),
                (centre - width * 0.36, height + 10),
            ]
        )
        right = smooth_open(
            [
                (centre + bend + 8, ground + 2),
                (centre + bend * 0.4 + width * 0.1, height * 0.66),
                (centre + width * 0.36, height + 10),
            ]
        )
        path = front.copy()
        lay_ground(path, "sand", palette.varied(rng, (196, 176, 146), 0.06), horizon, ground, 0.3, rng)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [np.rint(np.concatenate([left, right[::-1]])).astype(np.int32)], 255)
        weight = (cv2.GaussianBlur(mask, (0, 0), 3).astype(np.float32) / 255)[:, :, None]
        front += (path - front) * weight
    for _ in range(int(rng.integers(1, 4))):
        x, size = float(rng.uniform(0, width)), height * float(rng.uniform(0.3, 0.5))
        base = ground + size * 0.16
        fill(front, ellipse((x, base), size * 0.4, size * 0.04), palette.scaled(grass, 0.6))
        paint_tree(front, rng, x, base, size)
    changed = np.abs(front - image).sum(axis=2) > 0
    dim(front, mood)
    image[changed] = front[changed]
    return Scene(image, horizon, ground + 0.06 * height, mood)


def beach(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A beach: sky, sea, wet and dry sand."""
    mood = draw_mood(rng)
    horizon, ground = height * 0.45, height * 0.56
    image = sky(rng, width, int(height), mood)
    sea = palette.varied(rng, (52, 112, 140), 0.12)
    water = gradient(
        width, int(ground - horizon) + 8, palette.scaled(sea, 0.85), palette.mixed(sea, (150, 200, 200), 0.5)
    )
    noise_over(water, rng, 2.2, 0.1, 7)
    end = int(horizon) + len(water)
    image[int(horizon) : end] = water
    front = image[int(horizon) :]
    dim(front, mood)
    lay_ground(image, "sand", palette.varied(rng, (218, 194, 152), 0.05), horizon, ground, 0.3, rng)
    foam = smooth_open([(x, ground + rng.uniform(-5, 6)) for x in np.linspace(-10, width + 10, 18)])
    cv2.polylines(image, [np.rint(foam).astype(np.int32)], False, (240, 244, 244), 5, cv2.LINE_8)
    image[int(ground) + 4 : int(ground) + 30] *= 0.88
    if mood == "evening":
        image[int(ground) :] *= np.array((0.84, 0.74, 0.7), np.float32)
    return Scene(image, horizon, ground + height * 0.05, mood)
