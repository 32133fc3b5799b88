"""Light and lens: the lamp, the tint of light and shade, and what the camera adds (vignette, blur, noise)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from math import cos, sin
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.sample.canvas import Canvas, Lamp, ellipse
from cls.sample.figure.body import BodyFrame
from cls.sample.scene.textures import Plane

Tint: TypeAlias = tuple[float, float, float]

_SHRINK = 4

_GRAIN_STEPS = 22


def cast_shadow(
    image_rgb: NDArray[np.uint8], alpha: Plane, corner_px: tuple[int, int], foot_y_px: float, light: Light
) -> None:
    """Darken the ground where a figure keeps the light off; `alpha` is its layer, `corner_px` the layer's corner."""
    height_px, width_px = image_rgb.shape[:2]
    small = cv2.resize(alpha, None, fx=1 / _SHRINK, fy=1 / _SHRINK, interpolation=cv2.INTER_AREA)
    slant = -light.lamp.toward_x * 0.75
    flat = 0.2 if light.lamp.toward_x > 0 else 0.14
    # A point h above the soles falls h * slant aside and h * flat up the picture.
    x0, y0, foot = corner_px[0] / _SHRINK, corner_px[1] / _SHRINK, foot_y_px / _SHRINK
    matrix = np.array([[1, -slant, x0 + slant * (foot - y0)], [0, flat, foot - flat * (foot - y0)]])
    size = (-(-width_px // _SHRINK), -(-height_px // _SHRINK))
    fallen = cv2.warpAffine(small, matrix, size)
    fallen = cv2.GaussianBlur(fallen, (0, 0), 1.0 + 2.2 * (1 - light.lamp.hardness))
    rows, columns = np.flatnonzero(fallen.max(axis=1) > 0.01), np.flatnonzero(fallen.max(axis=0) > 0.01)
    if len(rows) == 0 or len(columns) == 0:
        return
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    window = (
        slice(top * _SHRINK, min(bottom * _SHRINK, height_px)),
        slice(left * _SHRINK, min(right * _SHRINK, width_px)),
    )
    roi = image_rgb[window]
    large = cv2.resize(
        fallen[top:bottom, left:right],
        ((right - left) * _SHRINK, (bottom - top) * _SHRINK),
        interpolation=cv2.INTER_LINEAR,
    )
    keep = (255 * (1 - light.shadow * large[: roi.shape[0], : roi.shape[1]])).astype(np.uint8)
    image_rgb[window] = cv2.multiply(roi, cv2.merge([keep] * 3), scale=1 / 255)


def contact_shadow(image_rgb: NDArray[np.uint8], frame: BodyFrame, corner_px: tuple[int, int]) -> None:
    """The dark line where soles meet the ground."""
    for side in (0, 1):
        ankle, toe = frame.at(frame.skeleton.ankles[side]), frame.at(frame.skeleton.toes[side])
        if frame.skeleton.ground_y - max(frame.skeleton.toes[side][1], frame.skeleton.ankles[side][1]) > 0.6:
            continue
        middle = (ankle + toe) / 2 + (corner_px[0], corner_px[1] + 0.17 * frame.unit_px)
        _darken(image_rgb, ellipse(middle, 0.52 * frame.unit_px, 0.13 * frame.unit_px), 0.5, 0.09 * frame.unit_px)


def _darken(image_rgb: NDArray[np.uint8], outline: NDArray[np.float64], amount: float, soften_px: float) -> None:
    pad = int(3 * soften_px) + 2
    low, high = outline.min(axis=0).astype(int) - pad, outline.max(axis=0).astype(int) + pad
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]), image_rgb.shape[1]), min(int(high[1]), image_rgb.shape[0])
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.rint((outline - (x0, y0)) * 16).astype(np.int32)], int(255 * amount), cv2.LINE_AA, 4)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(soften_px, 0.5)), np.uint8)
    keep = cv2.merge([255 - mask] * 3)
    image_rgb[y0:y1, x0:x1] = cv2.multiply(image_rgb[y0:y1, x0:x1], keep, scale=1 / 255)


def paint_seat(
    image_rgb: NDArray[np.uint8], frame: BodyFrame, corner_px: tuple[int, int], colour: tuple[float, float, float]
) -> None:
    """A bench under a sitting figure, behind it on the picture."""
    unit = frame.unit_px
    pelvis = frame.at(frame.skeleton.pelvis) + corner_px
    floor = frame.at((0.0, frame.skeleton.ground_y))[1] + corner_px[1] - 0.12 * unit
    knees = [frame.at(knee) + corner_px for knee in frame.skeleton.knees]
    side = float(np.sign(np.mean([knee[0] for knee in knees]) - pelvis[0])) or 1.0
    top = pelvis[1] + 0.36 * unit
    left, right = pelvis[0] - side * 1.5 * unit, pelvis[0] + side * 1.25 * unit
    left, right = min(left, right), max(left, right)

    def box(x0: float, y0: float, x1: float, y1: float, tone: float) -> None:
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        cv2.fillPoly(
            image_rgb,
            [np.rint(points * 16).astype(np.int32)],
            tuple(min(c * tone, 255.0) for c in colour),
            cv2.LINE_AA,
            4,
        )

    _darken(
        image_rgb,
        ellipse(((left + right) / 2, floor + 0.05 * unit), (right - left) * 0.55, 0.3 * unit),
        0.45,
        0.2 * unit,
    )
    for x in (left + 0.12 * unit, right - 0.32 * unit):
        box(x, top, x + 0.2 * unit, floor, 0.62)
    box(left, top - 0.3 * unit, right, top, 1.0)
    box(left, top, right, top + 0.2 * unit, 0.7)
    box(left, top - 0.12 * unit, right, top - 0.1 * unit, 0.85)


@dataclass(frozen=True)
class Light:
    """The light of one photo.

    Attributes:
        lamp: Where the main light comes from on screen, and how hard it is.
        lit: Tint (RGB gains) of what the light reaches.
        ambient: Tint of what it does not reach.
        shadow: Darkness of cast shadows, 0..1.
        gain: Tint of the whole photo (exposure and white balance).
        noise: Strength of the sensor noise, in 0..255 steps.
    """

    lamp: Lamp
    lit: Tint
    ambient: Tint
    shadow: float
    gain: Tint
    vignette: float
    noise: float
    blur_px: float


# Mood -> hardness of the lamp, tint of what it does not reach, tint of what it reaches, exposure.
_MOODS: dict[str, tuple[float, Tint, Tint, float]] = {
    "day": (0.85, (0.42, 0.46, 0.54), (1.05, 1.02, 0.97), 1.0),
    "overcast": (0.25, (0.56, 0.58, 0.6), (0.96, 0.98, 1.0), 0.97),
    "evening": (0.7, (0.4, 0.38, 0.46), (1.04, 0.93, 0.82), 0.88),
    "indoor": (0.45, (0.46, 0.45, 0.45), (1.02, 0.97, 0.9), 0.96),
}


def draw_light(rng: np.random.Generator, mood: str) -> Light:
    """Light at random for a mood: day, overcast, evening or indoor."""
    angle = float(rng.uniform(-1.1, 1.1))
    warm = float(rng.uniform(-1, 1))
    hardness, ambient, lit, exposure = _MOODS[mood]
    hardness *= float(rng.uniform(0.8, 1.15))
    exposure *= float(rng.uniform(0.93, 1.07))
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
