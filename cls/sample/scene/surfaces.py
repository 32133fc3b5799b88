"""Periodic surfaces that grounds and walls are laid with, (256, 256), brightness around 1; made once a process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from cls.sample.scene import textures

if TYPE_CHECKING:
    from collections.abc import Callable

    from cls.sample.scene.textures import Plane

_SIZE_PX = textures.TILE_PX


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
    "paving": _paving,
    "planks": _planks,
    "bricks": _bricks,
    "tiles": _tiles,
    "checker": _checker,
    "grass": _grass,
    "sand": _sand,
    "plain": _plain,
}


@cache
def surface(name: str) -> Plane:
    """A surface by name: paving, planks, bricks, tiles, checker, grass, sand or plain."""
    return np.asarray(_MAKERS[name](np.random.default_rng(len(name) * 7 + 3)), np.float32)
