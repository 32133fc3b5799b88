"""Augmentation of one cut-out, cheap enough for one core: one warp, one colour matrix, one blend.

Colours are what many groups are about (`hair_color`, `top_color`): brightness, contrast and saturation move a little,
hue never does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.people.preprocess import Preprocessing

# Rec. 601 luma: what a colour becomes when its saturation is taken away.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """How strongly a cut-out is changed. Ranges are half-widths around "unchanged"; `p_` are probabilities.

    Attributes:
        p_flip: mirrored left to right.
        zoom: relative change of size.
        stretch: relative change of proportions.
        rotation_deg: rotation.
        shift: shift, fraction of the input's size.
        brightness: factor on all channels.
        contrast: factor around mid grey.
        saturation: factor on the distance from grey.
        p_erase: a rectangle of the background's colour covers a part.
        erase_area: largest part covered, fraction of the input.
        p_flat: another flat colour behind the person than the one at inference.
        p_scene: a blurred photo's background behind the person.
    """

    p_flip: float = 0.5
    zoom: float = 0.12
    stretch: float = 0.06
    rotation_deg: float = 8.0
    shift: float = 0.05
    brightness: float = 0.15
    contrast: float = 0.15
    saturation: float = 0.15
    p_erase: float = 0.15
    erase_area: float = 0.08
    p_flat: float = 0.1
    p_scene: float = 0.2


def augment(
    wide: NDArray[np.uint8],
    scene: NDArray[np.uint8],
    preprocessing: Preprocessing,
    settings: Augmentation,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """A changed view of a person, as the network will see it.

    Args:
        wide: uint8 (height, width, 4), picture and mask of the cut-out cache.
        scene: the same of another sample: its background may be put behind the person.
        preprocessing: size, colour around the person.
        settings: how strongly.
        rng: where chance comes from: the same state gives the same view.

    Returns:
        uint8 (preprocessing.height_px, preprocessing.width_px, 3).
    """
    height_px, width_px = preprocessing.height_px, preprocessing.width_px
    matrix = _warp_matrix(wide.shape[0], wide.shape[1], height_px, width_px, settings, rng)
    warped = cv2.warpAffine(
        wide, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR, borderValue=(*preprocessing.fill_rgb, 0)
    )
    person = np.asarray(cv2.transform(warped[..., :3], _colour_matrix(settings, rng)), np.uint8)
    if preprocessing.is_background_kept:
        return _erase(person, preprocessing.fill_rgb, settings, rng)
    background = _background(scene, preprocessing, settings, rng)
    alpha = warped[..., 3].astype(np.float32) * np.float32(1 / 255)
    view = np.asarray(cv2.blendLinear(person, background, alpha, 1 - alpha), np.uint8)
    return _erase(view, preprocessing.fill_rgb, settings, rng)


def _warp_matrix(
    source_height_px: int,
    source_width_px: int,
    height_px: int,
    width_px: int,
    settings: Augmentation,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Maps the wide picture onto the input: centre to centre, with flip, zoom, stretch, rotation and shift; (2, 3)."""
    zoom, stretch, angle, shift_x, shift_y = rng.uniform(-1, 1, 5)
    scale = height_px / source_height_px * np.exp(zoom * np.log1p(settings.zoom))
    half_stretch = np.exp(stretch * np.log1p(settings.stretch) / 2)
    mirror = -1.0 if rng.random() < settings.p_flip else 1.0
    radians = np.deg2rad(angle * settings.rotation_deg)
    cosine, sine = np.cos(radians), np.sin(radians)
    turn = np.array([[cosine, -sine], [sine, cosine]]) * scale
    linear = turn @ np.diag([mirror * half_stretch, 1 / half_stretch])
    source_centre = np.array([(source_width_px - 1) / 2, (source_height_px - 1) / 2])
    target = np.array([(width_px - 1) / 2, (height_px - 1) / 2])
    target += np.array([shift_x * width_px, shift_y * height_px]) * settings.shift
    return np.hstack([linear, (target - linear @ source_centre)[:, None]])


def _colour_matrix(settings: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Brightness, contrast and saturation as one matrix, (3, 4) float32."""
    brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * (
        settings.brightness,
        settings.contrast,
        settings.saturation,
    )
    grey = np.tile(_LUMA, (3, 1))
    colour = (grey + (np.eye(3, dtype=np.float32) - grey) * saturation) * brightness * contrast
    offset = np.full((3, 1), 127.5 * (1 - contrast))
    return np.hstack([colour, offset]).astype(np.float32)


def _background(
    scene: NDArray[np.uint8], preprocessing: Preprocessing, settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """What is put behind the person: the flat colour of inference, another one, or a blurred scene."""
    shape = (preprocessing.height_px, preprocessing.width_px, 3)
    chance = rng.random()
    if chance < settings.p_scene:
        return _scene_without_person(scene, preprocessing)
    background = np.empty(shape, np.uint8)
    background[:] = rng.integers(0, 256, 3) if chance < settings.p_scene + settings.p_flat else preprocessing.fill_rgb
    return background


def _scene_without_person(scene: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A scene's background, its person filled in from the surroundings: blurred, so that no outline is left."""
    height_px, width_px = preprocessing.height_px, preprocessing.width_px
    small = cv2.resize(scene, (max(width_px // 8, 4), max(height_px // 8, 4)), interpolation=cv2.INTER_AREA)
    weight = np.where(small[..., 3:] < 16, np.float32(1), np.float32(1e-4))
    sigma = max(small.shape[1] / 12, 1.0)
    known = cv2.GaussianBlur(small[..., :3].astype(np.float32) * weight, (0, 0), sigma)
    share = cv2.GaussianBlur(np.repeat(weight, 3, axis=2), (0, 0), sigma)
    filled = np.clip(known / share, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(filled, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.uint8)


def _erase(
    view: NDArray[np.uint8], fill_rgb: tuple[int, int, int], settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Covers a random rectangle (Zhong et al., Random Erasing, AAAI 2020); changes and returns `view`."""
    if rng.random() < settings.p_erase:
        height_px, width_px = view.shape[:2]
        area = rng.uniform(0.02, max(settings.erase_area, 0.02)) * height_px * width_px
        ratio = np.exp(rng.uniform(-0.7, 0.7))
        box_height, box_width = min(int(np.sqrt(area * ratio)), height_px), min(int(np.sqrt(area / ratio)), width_px)
        top = int(rng.integers(0, height_px - box_height + 1))
        left = int(rng.integers(0, width_px - box_width + 1))
        view[top : top + box_height, left : left + box_width] = fill_rgb
    return view
