"""Light and lens: the lamp, the tint of light and shade, and what the camera adds (vignette, blur, noise)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from math import cos, sin
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cls.sample.canvas import Lamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cls.sample.canvas import Canvas
    from cls.sample.scene.textures import Plane


_GRAIN_STEPS = 22


@dataclass(frozen=True)
class Light:
    """The light of one photo.

    Attributes:
        lamp: Where the main light comes from on screen, and how hard it is.
        lit: Tint (RGB gains) of what the light reaches.
        ambient: Tint of what it does not reach.
        shadow: Darkness of cast shadows, 0..1.
        gain: Tint of the whole photo (exposure and white balance).
        vignette: How much darker the corners are.
        noise: Strength of the sensor noise, in 0..255 steps.
        blur_px: Blur of the whole photo.
    """

    lamp: Lamp
    lit: tuple[float, float, float]
    ambient: tuple[float, float, float]
    shadow: float
    gain: tuple[float, float, float]
    vignette: float
    noise: float
    blur_px: float


def draw_light(rng: np.random.Generator, mood: str) -> Light:
    """Light at random for a mood: day, overcast, evening or indoor."""
    angle = float(rng.uniform(-1.1, 1.1))
    warm = float(rng.uniform(-1, 1))
    hardness = {"day": 0.85, "overcast": 0.25, "evening": 0.7, "indoor": 0.45}[mood] * float(rng.uniform(0.8, 1.15))
    ambient = {
        "day": (0.42, 0.46, 0.54),
        "overcast": (0.56, 0.58, 0.6),
        "evening": (0.4, 0.38, 0.46),
        "indoor": (0.46, 0.45, 0.45),
    }[mood]
    lit = {
        "day": (1.05, 1.02, 0.97),
        "overcast": (0.96, 0.98, 1.0),
        "evening": (1.04, 0.93, 0.82),
        "indoor": (1.02, 0.97, 0.9),
    }[mood]
    exposure = {"day": 1.0, "overcast": 0.97, "evening": 0.88, "indoor": 0.96}[mood] * float(rng.uniform(0.93, 1.07))
    return Light(
        lamp=Lamp(sin(angle), -cos(angle), min(hardness, 1.0)),
        lit=lit,
        ambient=ambient,
        shadow=0.16 + 0.34 * min(hardness, 1.0),
        gain=(exposure * (1 + 0.035 * warm), exposure, exposure * (1 - 0.045 * warm)),
        vignette=float(rng.uniform(0.05, 0.24)),
        noise=float(rng.uniform(1.0, 3.2)) * (1.6 if mood == "evening" else 1.0),
        blur_px=float(rng.choice([0.0, 0.5, 0.8], p=[0.6, 0.25, 0.15])),
    )


def lit_rgb(canvas: Canvas, light: Light, window: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """A window (x0, y0, x1, y1) of a figure's layer as lit: shade runs from the ambient tint to the light's."""
    x0, y0, x1, y1 = window
    shade = np.clip(canvas.shade[y0:y1, x0:x1], 0.12, 1.55)
    # At shade 1 a surface keeps its own colour, so that names of colours hold under every light.
    slopes = [(lit - ambient * 0.55) / 0.9 for lit, ambient in zip(light.lit, light.ambient, strict=True)]
    tint = np.array([(slope, lit - slope) for slope, lit in zip(slopes, light.lit, strict=True)], np.float32)
    return np.asarray(cv2.multiply(canvas.albedo_rgb[y0:y1, x0:x1], cv2.transform(shade, tint)), np.float32)


@cache
def _corner_falloff() -> Plane:
    """Squared distance from the middle, 0 there and 1 in the corners, small: it is smooth and enlarged where used."""
    y, x = (np.mgrid[0:96, 0:96].astype(np.float32) + np.float32(0.5)) / np.float32(96) - np.float32(0.5)
    return np.asarray((x * x + y * y) * 2, np.float32)


@lru_cache(maxsize=2)
def _grain(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Fixed sensor noise around 128, larger than a photo so that each photo takes another window of it."""
    rng = np.random.default_rng(20)
    luma = rng.standard_normal((height_px + 128, width_px + 128, 1)) * _GRAIN_STEPS
    chroma = cv2.blur(rng.standard_normal((height_px + 128, width_px + 128, 3)), (2, 2)) * _GRAIN_STEPS
    return np.clip(128.5 + luma + chroma, 0, 255).astype(np.uint8)


def finish(image_rgb: NDArray[np.uint8], light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the camera makes of a scene (h, w, 3) uint8: blur, exposure, white balance, vignette and noise."""
    height_px, width_px = image_rgb.shape[:2]
    if light.blur_px:
        image_rgb = np.asarray(cv2.GaussianBlur(image_rgb, (0, 0), light.blur_px), np.uint8)
    # One gain a pixel and channel: exposure and white balance, less towards the corners; 200 stands for 1.
    gains = np.array([(-light.vignette * gain * 200, gain * 200) for gain in light.gain], np.float32)
    falloff = cv2.convertScaleAbs(cv2.transform(_corner_falloff(), gains))
    falloff = cv2.resize(falloff, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    image_rgb = np.asarray(cv2.multiply(image_rgb, falloff, scale=1 / 200), np.uint8)
    x, y = (int(value) for value in rng.integers(0, 128, 2))
    grain = _grain(width_px, height_px)[y : y + height_px, x : x + width_px]
    strength = light.noise / _GRAIN_STEPS
    return np.asarray(cv2.addWeighted(image_rgb, 1.0, grain, strength, -128 * strength), np.uint8)
