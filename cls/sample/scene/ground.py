"""What places are built of: skies, grounds in perspective, walls, foliage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.sample.canvas import Box, Colour, Points, ellipse
from cls.sample.figure import palette
from cls.sample.scene import textures
from cls.sample.scene.textures import Plane

_SIZE_PX = textures.TILE_PX

LEAVES: list[Colour] = [(74, 110, 52), (92, 124, 56), (58, 92, 54), (150, 126, 50), (104, 120, 70)]


def _stone(plane: Plane) -> Plane:
    """Dirt and stains, which every hard surface has."""
    return plane * (1 + 0.03 * textures.noise("dirt", 1.0, 1.0) + 0.03 * textures.noise("stain", 18, 18))


def _paving(rng: np.random.Generator) -> Plane:
    plane = np.ones((_SIZE_PX, _SIZE_PX), np.float32)
    for row in range(4):
        shift = 32 if row % 2 else 0
        band = slice(row * 64, row * 64 + 64)
        for column in range(4):
            columns = np.arange(column * 64 + shift, column * 64 + shift + 64) % _SIZE_PX
            plane[band, columns] *= 1 + rng.uniform(-0.07, 0.07)
            plane[band, columns[0]] *= 0.72
    plane[::64] *= 0.72
    plane[1::64] *= 0.8
    return _stone(plane)


def _planks(rng: np.random.Generator) -> Plane:
    plane = np.ones((_SIZE_PX, _SIZE_PX), np.float32)
    for left in range(0, _SIZE_PX, 32):
        plane[:, left : left + 32] *= 1 + rng.uniform(-0.14, 0.14)
        plane[:, left : left + 2] *= 0.62
        plane[int(rng.integers(_SIZE_PX)), left : left + 32] *= 0.6
    return _stone(plane * (1 + 0.06 * textures.noise("wood", 1.2, 24)))


def _bricks(rng: np.random.Generator) -> Plane:
    plane = np.full((_SIZE_PX, _SIZE_PX), 1.18, np.float32)
    for row in range(16):
        for column in range(8):
            left = column * 32 + (16 if row % 2 else 0)
            columns = np.arange(left + 2, left + 32) % _SIZE_PX
            plane[row * 16 + 2 : row * 16 + 16, columns] = 0.92 * (1 + rng.uniform(-0.16, 0.14))
    return _stone(plane)


def _tiles(_: np.random.Generator) -> Plane:
    plane = np.ones((_SIZE_PX, _SIZE_PX), np.float32)
    plane[::64] = 0.8
    plane[:, ::64] = 0.8
    return _stone(plane)


def _checker(_: np.random.Generator) -> Plane:
    y, x = np.mgrid[0:_SIZE_PX, 0:_SIZE_PX] // 64
    return _stone(np.where((x + y) % 2 == 0, 1.12, 0.84).astype(np.float32))


def _grass(_: np.random.Generator) -> Plane:
    return 1 + 0.16 * textures.noise("blade", 0.8, 1.6) + 0.1 * textures.noise("tuft", 7, 5)


def _sand(_: np.random.Generator) -> Plane:
    return 1 + 0.05 * textures.noise("grit", 0.7, 0.7) + 0.07 * textures.noise("dune", 20, 6)


def _plain(_: np.random.Generator) -> Plane:
    return _stone(1 + 0.03 * textures.noise("plain", 1, 1) + 0.05 * textures.noise("plain-large", 14, 14))


_MAKERS: dict[str, Callable[[np.random.Generator], Plane]] = {
    "paving": _paving, "planks": _planks, "bricks": _bricks, "tiles": _tiles, "checker": _checker, "grass": _grass,
    "sand": _sand, "plain": _plain,
}  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """What a ground or a wall is made of.

    Attributes:
        name: paving, planks, bricks, tiles, checker, grass, sand or plain.
        colour: its mean colour.
        scale: of a wall, the surface's pixels for a pixel of the picture; of a ground, one picture height below the
            horizon.
        haze: colour that a ground fades to far away.
    """

    name: str
    colour: Colour
    scale: float
    haze: Colour | None = None


@cache
def _texture(name: str) -> Plane:
    """The texture of a surface: (256, 256), around 1, periodic."""
    return np.asarray(_MAKERS[name](np.random.default_rng(len(name) * 7 + 3)), np.float32)


def gradient(width: int, height: int, top: Colour, bottom: Colour) -> NDArray[np.float32]:
    """A picture (height, width, 3) that runs from one colour at the top to another at the bottom."""
    share = np.linspace(0, 1, max(height, 1), dtype=np.float32)[:, None, None]
    rows = np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share
    return np.repeat(rows, width, axis=1)


def fill(image: NDArray[np.float32], outline: Points, colour: Colour) -> None:
    """Fill an outline (pixels) with a flat colour, edges smooth."""
    cv2.fillPoly(image, [np.rint(outline * 16).astype(np.int32)], colour, cv2.LINE_8, 4)


def rectangle(image: NDArray[np.float32], box_xyxy_px: Box, colour: Colour) -> None:
    """Fill an upright rectangle."""
    x0, y0, x1, y1 = box_xyxy_px
    cv2.rectangle(image, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), colour, -1)


def noise_over(
    image: NDArray[np.float32], rng: np.random.Generator, sigma: float, amount: float, stretch: float = 1.0
) -> None:
    """Multiply a picture by soft noise; `sigma` is its grain in pixels, `stretch` above 1 makes it run across."""
    height, width = image.shape[:2]
    tile = textures.noise("ground", 3.0, 3.0)
    zoom = 3.0 / max(sigma, 0.1)
    x0, y0 = rng.uniform(0, 256, 2)
    matrix = np.array([[zoom / stretch, 0, x0], [0, zoom, y0]])
    plane = cv2.warpAffine(
        tile, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP
    )
    image *= 1 + amount * plane[:, :, None]


def sky(rng: np.random.Generator, width: int, height: int, mood: str) -> NDArray[np.float32]:
    """A sky with clouds for the mood of the light."""
    top: Colour
    bottom: Colour
    if mood == "evening":
        top, bottom = [
            ((62, 72, 120), (240, 176, 130)),
            ((40, 48, 86), (190, 130, 130)),
            ((84, 96, 150), (250, 206, 160)),
        ][int(rng.integers(3))]
    elif mood == "overcast":
        top, bottom = (168, 176, 186), (220, 222, 224)
    else:
        top, bottom = palette.mixed((70, 130, 204), (110, 160, 214), float(rng.random())), (206, 224, 238)
    # Clouds are soft: they are worked out at half the size.
    low_width, low_height = -(-width // 2), -(-height // 2)
    y, x = np.mgrid[0:low_height, 0:low_width].astype(np.float32)
    x0, y0 = (float(value) for value in rng.uniform(0, 256, 2))
    depth = 1.0 / (0.25 + (low_height - y) / low_height)
    tile = (0.7 * textures.noise("cloud-a", 16, 9) + 0.4 * textures.noise("cloud-b", 5, 4)).astype(np.float32)
    map_x, map_y = np.mod(x * 160 / low_width * np.sqrt(np.sqrt(depth)) + x0, 256), np.mod(depth * 60 + y0, 256)
    cloud = cv2.remap(tile, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.clip((cloud - float(rng.uniform(0.0, 0.7))) * 1.2, 0, 0.85)[:, :, None]
    white = np.array((250, 214, 190) if mood == "evening" else (250, 250, 250), np.float32)
    image = gradient(low_width, low_height, top, bottom)
    image += (white - image) * cover
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def lay_ground(
    image: NDArray[np.float32], rng: np.random.Generator, surface: Surface, horizon_y: float, top_y: float
) -> None:
    """Cover everything below `top_y` with a surface seen in perspective towards `horizon_y`.

    Args:
        image: The picture, changed in place.
        rng: Where the surface starts.
        surface: What lies there.
        horizon_y: Row of the horizon.
        top_y: First row of the ground.
    """
    height, width = image.shape[:2]
    first = max(int(top_y), 0)
    if first >= height:
        return
    y, x = np.mgrid[first:height, 0:width].astype(np.float32)
    scale = surface.scale
    below = np.maximum(y - np.float32(horizon_y), 1.5) / np.float32(height)
    x0, y0 = (float(value) for value in rng.uniform(0, 256, 2))
    u = np.mod((x - width / 2) * np.float32(scale) / below * 0.5 + x0, 256)
    v = np.mod(np.float32(scale * height * 0.5) / below + y0, 256)
    plane = cv2.remap(_texture(surface.name), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    # Far away many pixels of the surface meet in one: fade to its mean instead of flickering.
    far = np.clip((below - 0.03) * 9, 0, 1)
    plane = 1 + (plane - 1) * far
    shade = 0.86 + 0.18 * np.clip(below * 2.2, 0, 1)
    base = np.array(surface.colour, np.float32)
    ground = (plane * shade)[:, :, None] * base
    if surface.haze is not None:
        haze = np.exp(-below * 9)[:, :, None] * 0.6
        ground += (np.array(surface.haze, np.float32) - ground) * haze
    image[first:] = ground


def lay_wall(image: NDArray[np.float32], surface: Surface, box_xyxy_px: tuple[int, int, int, int]) -> None:
    """Cover a rectangle with a surface seen straight on."""
    height, width = image.shape[:2]
    x0, y0 = max(box_xyxy_px[0], 0), max(box_xyxy_px[1], 0)
    x1, y1 = min(box_xyxy_px[2], width), min(box_xyxy_px[3], height)
    if y1 <= y0 or x1 <= x0:
        return
    matrix = np.array([[surface.scale, 0, 0], [0, surface.scale, 0.0]])
    plane = cv2.warpAffine(
        _texture(surface.name),
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    image[y0:y1, x0:x1] = plane[:, :, None] * np.array(surface.colour, np.float32)


def foliage(
    image: NDArray[np.float32],
    rng: np.random.Generator,
    centre: tuple[float, float],
    half_xy: tuple[float, float],
    colour: Colour,
) -> None:
    """A mass of leaves: dark blots first, lighter and smaller ones towards the light after."""
    half_x, half_y = half_xy
    for layer, (tone, count, size) in enumerate(((0.55, 16, 0.42), (0.8, 22, 0.3), (1.05, 26, 0.2), (1.3, 20, 0.12))):
        for _ in range(count):
            angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1)) * (0.9 - 0.1 * layer)
            x = centre[0] + half_x * radius * np.cos(angle)
            y = centre[1] + half_y * radius * np.sin(angle) - half_y * 0.1 * layer
            half = size * half_x * rng.uniform(0.6, 1.2)
            fill(
                image,
                ellipse((x, y), half, half * 0.75, rng.uniform(-0.6, 0.6), 12),
                palette.varied(rng, palette.scaled(colour, tone), 0.1),
            )


@dataclass
class Scene:
    """A drawn place: picture (float RGB), horizon row, first row of the ground, mood of the light."""

    image_rgb: NDArray[np.float32]
    horizon_y_px: float
    ground_y_px: float
    mood: str


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
            (x - size * 0.05, ground_y), (x - size * 0.03, ground_y - size), (x + size * 0.03, ground_y - size),
            (x + size * 0.05, ground_y),
        ]
    )  # fmt: skip
    fill(image, trunk, (78, 62, 48))
    foliage(image, rng, (x, ground_y - size * 1.15), (size * 0.5, size * 0.5), palette.pick(rng, LEAVES))
