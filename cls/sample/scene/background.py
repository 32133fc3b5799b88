"""Places photos are taken at: drawn once a picset; each photo shows a window of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.sample.canvas import Colour, Points, ellipse, smooth_closed, smooth_open
from cls.sample.figure import palette
from cls.sample.scene.ground import (
    LEAVES,
    Scene,
    Surface,
    dim,
    draw_mood,
    fill,
    foliage,
    gradient,
    lay_ground,
    lay_wall,
    noise_over,
    paint_tree,
    rectangle,
    sky,
)

_WALLS: list[Colour] = [
    (222, 212, 196), (190, 202, 204), (206, 190, 176), (176, 186, 168), (214, 206, 214), (160, 172, 186),
]  # fmt: skip

_FACADES: list[Colour] = [
    (196, 172, 146), (168, 110, 88), (206, 200, 190), (150, 150, 152), (212, 188, 150), (132, 100, 84), (176, 186, 190),
    (198, 150, 130),
]  # fmt: skip

MARGIN = 1.5
"""How much larger than a photo the drawn place is, on each side."""

DETAIL = 0.7
"""Pixels of a drawn place for a pixel of a photo at zoom 1: what is behind the people is out of focus anyway."""


def _plant(
    image: NDArray[np.float32], rng: np.random.Generator, foot_xy: tuple[float, float], size: float, pot: Colour
) -> None:
    """A potted plant on the floor."""
    x, foot = foot_xy
    fill(image, ellipse((x, foot + 1), size * 0.36, size * 0.07), (60, 54, 50))
    fill(image, np.array([(-0.26, -0.5), (0.26, -0.5), (0.19, 0.0), (-0.19, 0.0)]) * size + (x, foot), pot)
    fill(
        image,
        np.array([(-0.28, -0.56), (0.28, -0.56), (0.28, -0.47), (-0.28, -0.47)]) * size + (x, foot),
        palette.scaled(pot, 0.8),
    )
    foliage(image, rng, (x, foot - size * 1.05), (size * 0.48, size * 0.6), (70, 112, 60))


def _window(image: NDArray[np.float32], rng: np.random.Generator, x: float, w: float) -> None:
    """A window with curtains."""
    height, width = image.shape[:2]
    rectangle(image, (x - 8, height * 0.06, x + w + 8, height * 0.44), (240, 238, 232))
    for half in (0, 1):
        x0, x1 = int(x + half * w / 2 + 3), int(x + (half + 1) * w / 2 - 3)
        y0, y1 = int(height * 0.06) + 9, int(height * 0.44) - 9
        part = image[y0:y1, max(x0, 0) : min(x1, width)]
        part[:] = gradient(part.shape[1], part.shape[0], (206, 228, 246), (236, 240, 230))
    curtain = palette.pick(rng, palette.KNITWEAR)
    for edge in (x - 22, x + w - 2):
        for strip in range(4):
            left, tone = edge + strip * 6, 0.8 + 0.12 * (strip % 2)
            rectangle(image, (left, height * 0.03, left + 6, height * 0.56), palette.scaled(curtain, tone))


def _picture(image: NDArray[np.float32], rng: np.random.Generator, x: float, w: float) -> None:
    """A framed picture of hills."""
    height = image.shape[0]
    rectangle(image, (x, height * 0.14, x + w * 0.8, height * 0.36), palette.pick(rng, palette.LEATHER))
    rectangle(image, (x + 6, height * 0.14 + 6, x + w * 0.8 - 6, height * 0.36 - 6), (238, 234, 226))
    ridge = [(0.1, 0.33), (0.25, 0.2), (0.5, 0.28), (0.68, 0.2), (0.72, 0.33)]
    hills = smooth_closed([(x + u * w, height * v) for u, v in ridge], 3)
    fill(image, hills, palette.pick(rng, palette.KNITWEAR))


def _bookcase(image: NDArray[np.float32], rng: np.random.Generator, x: float, w: float) -> None:
    """A bookcase full of books."""
    height = image.shape[0]
    bottom, step = height * 0.63, height * 0.104
    wood = palette.pick(rng, palette.LEATHER)
    rectangle(image, (x, height * 0.1, x + w, bottom), palette.scaled(wood, 0.55))
    for shelf in range(5):
        y = height * 0.1 + step * shelf
        rectangle(image, (x, y, x + w, y + 5), wood)
        book_x = x + 6
        while book_x < x + w - 14:
            thick, tall = float(rng.uniform(5, 12)), float(rng.uniform(0.05, 0.085)) * height
            rectangle(image, (book_x, y + step - tall, book_x + thick, y + step), palette.pick(rng, palette.KNITWEAR))
            book_x += thick + 1
    for edge in (x, x + w):
        rectangle(image, (edge - 3, height * 0.1, edge + 3, bottom), wood)


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
    rectangle(image, (x + w / 2 - 1, y - height * 0.07, x + w / 2 + 1, y + 4), palette.scaled(colour, 0.8))


def room(rng: np.random.Generator, width: int, height: int) -> Scene:
    """An interior: wall and floor, windows, pictures, bookcases and plants, perhaps a sofa."""
    horizon, ground = height * 0.44, height * 0.63
    colour = palette.pick(rng, _WALLS)
    image = gradient(width, height, palette.scaled(colour, 0.92), colour)
    noise_over(image, rng, 90, 0.03)
    if rng.random() < 0.4:
        panel = palette.mixed(colour, (244, 242, 238), 0.5)
        rectangle(image, (0, height * 0.48, width, ground), panel)
        rectangle(image, (0, height * 0.475, width, height * 0.487), palette.scaled(panel, 0.86))
    plants: list[float] = []
    for slot in rng.permutation(5)[: int(rng.integers(2, 5))]:
        x, choice = (0.04 + slot * 0.2 + float(rng.uniform(0, 0.04))) * width, int(rng.integers(4))
        if choice < 3:
            (_window, _picture, _bookcase)[choice](image, rng, x, 0.15 * width)
        else:
            plants.append(x + 0.075 * width)
    wood = palette.pick(rng, [(170, 128, 88), (140, 100, 68), (190, 160, 124), (150, 146, 142)])
    rectangle(image, (0, ground - 9, width, ground), (236, 232, 226))
    floor = str(rng.choice(["planks", "planks", "checker", "tiles", "plain"]))
    lay_ground(image, rng, Surface(floor, wood, 0.22), horizon, ground)
    image[int(ground) : int(ground) + 8] *= 0.8
    if rng.random() < 0.45:
        _sofa(image, rng, ground)
    for x in plants:
        _plant(image, rng, (x, ground + height * 0.03), 0.15 * width, palette.pick(rng, palette.LEATHER))
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
                (size * 0.75, size),
                palette.varied(rng, colour, 0.12),
            )
    grass = palette.varied(rng, (112, 138, 66), 0.1)
    lay_ground(front, rng, Surface("grass", grass, 0.35, haze=(150, 166, 110)), horizon, ground)
    if rng.random() < 0.7:
        bend = float(rng.uniform(-0.5, 0.5)) * width
        centre = width * float(rng.uniform(0.35, 0.65))
        left, right = (
            smooth_open(
                [
                    (centre + bend + sign * 8, ground + 2),
                    (centre + bend * 0.4 + sign * width * 0.1, height * 0.66),
                    (centre + sign * width * 0.36, height + 10),
                ]
            )
            for sign in (-1, 1)
        )
        path = front.copy()
        lay_ground(path, rng, Surface("sand", palette.varied(rng, (196, 176, 146), 0.06), 0.3), horizon, ground)
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
    lay_ground(image, rng, Surface("sand", palette.varied(rng, (218, 194, 152), 0.05), 0.3), horizon, ground)
    foam = smooth_open([(x, ground + rng.uniform(-5, 6)) for x in np.linspace(-10, width + 10, 18)])
    cv2.polylines(image, [np.rint(foam).astype(np.int32)], False, (240, 244, 244), 5, cv2.LINE_8)
    image[int(ground) + 4 : int(ground) + 30] *= 0.88
    if mood == "evening":
        image[int(ground) :] *= np.array((0.84, 0.74, 0.7), np.float32)
    return Scene(image, horizon, ground + height * 0.05, mood)


def _facade(
    image: NDArray[np.float32], rng: np.random.Generator, box_xyxy_px: tuple[int, int, int, int], mood: str
) -> None:
    """One house front with rows of windows and a shop below."""
    x0, y0, x1, y1 = box_xyxy_px
    colour = palette.pick(rng, _FACADES)
    lay_wall(image, Surface(str(rng.choice(["bricks", "plain", "plain"])), colour, 1.6), (x0, y0, x1, y1))
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
            rectangle(image, (wx0 - 3, wy0 - 3, wx1 + 3, wy1 + 4), trim)
            rectangle(image, (wx0, wy0, wx1, wy1), glass)
            rectangle(image, (wx0, wy0, wx1, wy0 + (wy1 - wy0) * 0.18), palette.scaled(glass, 0.7))
            rectangle(image, ((wx0 + wx1) / 2 - 1, wy0, (wx0 + wx1) / 2 + 1, wy1), trim)
    rectangle(image, (x0, y0, x1, y0 + 7), palette.scaled(colour, 0.66))
    rectangle(image, (x0, shop_y, x1, y1), palette.scaled(colour, 0.6))
    awning = palette.pick(rng, palette.KNITWEAR)
    door = rng.integers(columns)
    for column in range(columns):
        wx0, wx1 = x0 + step_x * column + 6, x0 + step_x * (column + 1) - 6
        glass = palette.varied(rng, (240, 214, 160) if mood == "evening" else (126, 136, 140), 0.15)
        rectangle(
            image,
            (wx0, shop_y + 16, wx1, y1 if column == door else y1 - 14),
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
            (-0.5, -0.04), (-0.5, -0.17), (-0.32, -0.21), (-0.2, -0.34), (0.14, -0.34), (0.28, -0.21), (0.47, -0.17),
            (0.5, -0.05), (0.3, -0.02), (-0.3, -0.02),
        ],
        3,
    )  # fmt: skip
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
                ((end - x) * 0.6, height * 0.17),
                palette.pick(rng, LEAVES),
            )
        else:
            top = int(ground - rng.uniform(0.34, 0.75) * height)
            _facade(front, rng, (max(x, 0), max(top, 0), min(end, width), int(ground)), mood)
        x = end
    kerb = height * 0.62
    lay_ground(front, rng, Surface("plain", (104, 104, 106), 0.12), horizon, ground)
    for _ in range(int(rng.integers(0, 4))):
        _car(front, rng, float(rng.uniform(0, width)), kerb - 2, 0.26 * width)
    rectangle(front, (0, kerb - 2, width, kerb + 4), (170, 168, 164))
    lay_ground(front, rng, Surface("paving", palette.varied(rng, (176, 170, 162), 0.08), 0.2), horizon, kerb + 4)
    for _ in range(int(rng.integers(0, 3))):
        paint_tree(front, rng, float(rng.uniform(0, width)), kerb + 8, height * 0.34)
    if rng.random() < 0.5:
        lamp_x = float(rng.uniform(0.1, 0.9)) * width
        rectangle(front, (lamp_x - 3, height * 0.1, lamp_x + 3, kerb + 10), (52, 54, 58))
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
    lay_wall(
        image, Surface(name, palette.pick(rng, colours), 1.15 if name == "bricks" else 0.8), (0, 0, width, int(ground))
    )
    noise_over(image, rng, 60, 0.05)
    for _ in range(int(rng.integers(0, 3))):
        x = float(rng.uniform(0.05, 0.85)) * width
        if rng.random() < 0.5:
            rectangle(image, (x - 8, height * 0.08, x + 0.15 * width + 8, height * 0.42), (226, 222, 214))
            image[int(height * 0.08) + 8 : int(height * 0.42) - 8, int(x) : int(x + 0.15 * width)] = gradient(
                int(x + 0.15 * width) - int(x),
                int(height * 0.42) - int(height * 0.08) - 16,
                (120, 140, 156),
                (84, 96, 106),
            )[:, : max(min(int(x + 0.15 * width), width) - int(x), 0)]
            rectangle(image, (x + 0.073 * width, height * 0.08, x + 0.079 * width, height * 0.42), (226, 222, 214))
        else:
            poster = palette.pick(rng, palette.KNITWEAR)
            rectangle(image, (x, height * 0.16, x + 0.12 * width, height * 0.42), (234, 230, 222))
            rectangle(image, (x + 6, height * 0.17, x + 0.12 * width - 6, height * 0.34), poster)
            fill(
                image,
                ellipse((x + 0.06 * width, height * 0.26), 0.035 * width, 0.05 * height),
                palette.scaled(poster, 1.4),
            )
    if rng.random() < 0.35:
        x = float(rng.choice([0.02, 0.98])) * width
        foliage(image, rng, (x, height * 0.3), (width * 0.12, height * 0.36), palette.pick(rng, LEAVES))
    rectangle(image, (0, ground - 12, width, ground), (120, 116, 110))
    lay_ground(
        image,
        rng,
        Surface(str(rng.choice(["paving", "plain"])), palette.varied(rng, (168, 164, 158), 0.1), 0.2),
        horizon,
        ground,
    )
    image[int(ground) : int(ground) + 10] *= 0.72
    dim(image, mood)
    return Scene(image, horizon, ground + 6, mood)


PAINTERS: dict[str, tuple[Callable[[np.random.Generator, int, int], Scene], float]] = {
    "street": (street, 0.28), "park": (park, 0.2), "wall": (wall, 0.17), "room": (room, 0.2), "beach": (beach, 0.08),
    "studio": (studio, 0.07),
}  # fmt: skip
"""Each kind of place: its painter and how often it is taken."""


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
    place: Place, size_px: tuple[int, int], zoom: float, centre_x: float, horizon_y_px: float
) -> NDArray[np.uint8]:
    """The window of a place that a photo of this width and height shows, (height, width, 3) uint8 RGB."""
    width_px, _ = size_px
    source = place.image_rgb
    scale = zoom / DETAIL
    left = centre_x * source.shape[1] - width_px / 2 / scale
    matrix = np.array([[scale, 0, -left * scale], [0, scale, horizon_y_px - place.horizon_y_px * zoom]])
    window = cv2.warpAffine(source, matrix, size_px, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(window, np.uint8)
