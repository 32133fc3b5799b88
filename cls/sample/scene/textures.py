"""Small periodic tiles (noise, folds, fibres, fabric patterns), made once a process and sampled at any angle."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[np.float32]

TILE_PX = 256


@cache
def noise(name: str, sigma_x: float, sigma_y: float) -> Plane:
    """Periodic Gaussian noise (TILE_PX, TILE_PX), smooth over the sigmas, mean 0, standard deviation 1."""
    frequency = np.fft.fftfreq(TILE_PX)
    decay = np.exp(-2 * np.pi**2 * ((frequency[:, None] * sigma_y) ** 2 + (frequency[None, :] * sigma_x) ** 2))
    white = np.random.default_rng([ord(letter) for letter in name]).standard_normal((TILE_PX, TILE_PX))
    plane = np.fft.ifft2(np.fft.fft2(white) * decay).real
    plane -= plane.mean()
    return np.asarray(plane / plane.std(), np.float32)


@cache
def folds() -> Plane:
    """Soft creases of cloth, mostly across the tile's y axis, in about -1..1."""
    slant = noise("folds-a", 26, 9) + 0.6 * noise("folds-b", 12, 7)
    crease = np.abs(noise("folds-c", 30, 8))
    return np.asarray(np.clip(0.45 * slant - 0.8 * np.exp(-4 * crease) + 0.25, -1, 1), np.float32)


@cache
def fibres() -> Plane:
    """Hair strands running along y, in about -1..1."""
    return np.asarray(
        np.clip(0.35 * noise("fibre-a", 0.8, 60) + 0.45 * noise("fibre-b", 3.0, 60), -1.2, 1.2), np.float32
    )


@cache
def curls() -> Plane:
    """Small locks of curly hair, in about -1..1."""
    return np.asarray(
        np.clip(0.45 * noise("curl-a", 3.2, 3.2) + 0.25 * noise("curl-b", 1.4, 1.4), -1.2, 1.2), np.float32
    )


@cache
def weave() -> Plane:
    """Fine fabric grain, in about -1..1."""
    return np.asarray(np.clip(0.4 * noise("weave", 0.7, 0.7), -1, 1), np.float32)


def _soft_step(plane: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    return np.asarray(np.clip((plane - edge) * 12 + 0.5, 0, 1))


@cache
def pattern(name: str) -> Plane:
    """How much of the second colour each point of a fabric pattern holds, 0..1, (TILE_PX, TILE_PX), periodic."""
    y, x = np.mgrid[0:TILE_PX, 0:TILE_PX] / TILE_PX
    wave_y, wave_x = np.cos(2 * np.pi * 8 * y), np.cos(2 * np.pi * 8 * x)
    if name == "thin stripes":
        plane = _soft_step(wave_y, 0.72)
    elif name == "pinstripes":
        plane = _soft_step(wave_x, 0.85)
    elif name == "bold stripes":
        plane = _soft_step(np.cos(2 * np.pi * 4 * y), 0.0)
    elif name == "checks":
        plane = 0.5 * _soft_step(wave_y, 0.35) + 0.5 * _soft_step(wave_x, 0.35)
    elif name == "plaid":
        plane = (
            0.4 * _soft_step(wave_y, 0.0)
            + 0.4 * _soft_step(wave_x, 0.0)
            + 0.2 * _soft_step(np.cos(2 * np.pi * 16 * y), 0.9)
        )
    elif name == "dots":
        plane = _soft_step(wave_y * wave_x, 0.62)
    elif name == "patches":
        plane = _soft_step(noise("patches", 14, 14).astype(np.float64), 0.0)
    elif name == "knit":
        plane = 0.5 + 0.5 * np.cos(2 * np.pi * 32 * x) * (0.7 + 0.3 * np.cos(2 * np.pi * 32 * y))
    elif name == "denim":
        plane = np.clip(0.5 + 0.3 * noise("denim", 0.6, 1.6) + 0.25 * noise("wash", 18, 30), 0, 1)
    else:
        raise KeyError(name)
    return np.asarray(plane, np.float32)


def cut(tile: Plane, x0: int, y0: int, width: int, height: int) -> Plane:
    """A window of a tile at its own scale, whole pixels, repeated as often as needed."""
    rows, columns = np.arange(y0, y0 + height) % TILE_PX, np.arange(x0, x0 + width) % TILE_PX
    return np.asarray(tile[np.ix_(rows, columns)])
