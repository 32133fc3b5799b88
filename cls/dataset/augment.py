"""How views of cut-outs differ: what is drawn for a batch, as arrays, before any pixel is touched.

Colours are what many groups are about (`hair_color`, `top_color`): brightness, contrast and saturation move a little,
hue never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cls.people.preprocess import Preprocessing

_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, epoch: int, indices: Sequence[int], count: int) -> NDArray[np.float64]:
    """Random numbers of samples: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), a stream a seed, epoch and sample.

    A generator object a sample would cost more than the arithmetic of its view; this costs a few microseconds a batch.

    Args:
        seed: from 0.
        epoch: from 0.
        indices: numbers of the samples, from 0.
        count: how many numbers each gets.

    Returns:
        float64 (samples, count), 0 <= value < 1. A sample's row does not depend on which others are asked for.
    """
    state = _mixed(np.array([seed % 2**64], np.uint64) + _STEP)
    state = _mixed(state + np.array([epoch], np.uint64) + _STEP)
    state = _mixed(state + np.asarray(indices, np.uint64) + _STEP)
    streams = state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP
    return np.asarray((_mixed(streams) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finisher: every bit of the input changes about half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# Rec. 601 luma: what a colour becomes when its saturation is taken away.
_LUMA = np.array([0.299, 0.587, 0.114])
# What stands behind the person: the flat colour of inference, another flat colour, or a picture.
SAME, FLAT, PICTURE = 0, 1, 2
_COLUMNS = 20


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
        p_picture: a picture behind the person: of the group `background`, or another photo's scene.
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
    p_picture: float = 0.2


@dataclass(frozen=True)
class Views:
    """What was drawn for the views of a batch; each array has one entry a view.

    Attributes:
        matrices: float64 (batch, 2, 3), a pixel of the `rgb_and_mask` picture -> a pixel of the view.
        colours: float32 (batch, 3, 4), RGB and 1 -> RGB.
        grounds: int64 (batch,), SAME, FLAT or PICTURE.
        flat_rgb: uint8 (batch, 3), the colour behind the person where it is flat.
        pictures: float64 (batch, 2), 0..1: which source of pictures, and which of its pictures.
        is_picture_flipped: bool (batch,), the picture is mirrored.
        boxes_yxhw_px: int64 (batch, 4), the rectangle that is covered: top, left, height, width; height 0: none.
    """

    matrices: NDArray[np.float64]
    colours: NDArray[np.float32]
    grounds: NDArray[np.int64]
    flat_rgb: NDArray[np.uint8]
    pictures: NDArray[np.float64]
    is_picture_flipped: NDArray[np.bool_]
    boxes_yxhw_px: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.matrices)


class BatchKey(NamedTuple):
    """Which batch: a view of a sample is a function of seed, epoch and sample alone."""

    epoch: int
    indices: tuple[int, ...]


def draw_views(
    settings: Augmentation,
    preprocessing: Preprocessing,
    rgb_and_mask_shape: tuple[int, int, int],
    key: BatchKey,
    *,
    seed: int,
) -> Views:
    """What happens to samples in an epoch; a sample's view does not depend on the batch it is in.

    Args:
        settings: how strongly.
        preprocessing: size of the view, colour around the person.
        rgb_and_mask_shape: (height, width, 4) of the pictures that are changed.
        key: epoch and the samples' numbers.
        seed: where chance comes from.
    """
    chance = uniforms(seed, key.epoch, key.indices, _COLUMNS)
    is_picture, is_other = chance[:, 9] < settings.p_picture, chance[:, 9] < settings.p_picture + settings.p_flat
    grounds = np.where(is_picture, PICTURE, np.where(is_other, FLAT, SAME))
    flat = np.where((grounds == FLAT)[:, None], chance[:, 12:15] * 256, preprocessing.fill_rgb)
    return Views(
        matrices=_matrices(chance[:, :6], settings, preprocessing, rgb_and_mask_shape),
        colours=_colours(chance[:, 6:9], settings),
        grounds=grounds,
        flat_rgb=flat.astype(np.uint8),
        pictures=chance[:, 10:12],
        is_picture_flipped=chance[:, 19] < 0.5,
        boxes_yxhw_px=_boxes(chance[:, 15:19], settings, preprocessing),
    )


def _matrices(
    chance: NDArray[np.float64],
    settings: Augmentation,
    preprocessing: Preprocessing,
    rgb_and_mask_shape: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Centre to centre, with flip, zoom, stretch, rotation and shift; (batch, 2, 3)."""
    zoom, stretch, angle, shift_x, shift_y = (2 * chance[:, :5] - 1).T
    mirror = np.where(chance[:, 5] < settings.p_flip, -1.0, 1.0)
    scale = preprocessing.height_px / rgb_and_mask_shape[0] * (1 + settings.zoom) ** zoom
    half_stretch = (1 + settings.stretch) ** (stretch / 2)
    radians = np.deg2rad(angle * settings.rotation_deg)
    cosine, sine = np.cos(radians) * scale, np.sin(radians) * scale
    across, down = mirror * half_stretch, 1 / half_stretch
    matrices = np.empty((len(chance), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = cosine * across, -sine * down
    matrices[:, 1, 0], matrices[:, 1, 1] = sine * across, cosine * down
    size = np.array([preprocessing.width_px, preprocessing.height_px])
    target = (size - 1) / 2 + np.stack([shift_x, shift_y], axis=1) * size * settings.shift
    centre = np.array([(rgb_and_mask_shape[1] - 1) / 2, (rgb_and_mask_shape[0] - 1) / 2])
    matrices[:, :, 2] = target - matrices[:, :, :2] @ centre
    return matrices


def _colours(chance: NDArray[np.float64], settings: Augmentation) -> NDArray[np.float32]:
    """Brightness, contrast and saturation as one matrix a view; (batch, 3, 4)."""
    strength = np.array([settings.brightness, settings.contrast, settings.saturation])
    brightness, contrast, saturation = (1 + (2 * chance - 1) * strength).T
    grey = np.tile(_LUMA, (3, 1))
    colours = np.empty((len(chance), 3, 4), np.float32)
    colours[:, :, :3] = grey + (np.eye(3) - grey) * saturation[:, None, None]
    colours[:, :, :3] *= (brightness * contrast)[:, None, None]
    colours[:, :, 3] = (127.5 * (1 - contrast))[:, None]
    return colours


def _boxes(chance: NDArray[np.float64], settings: Augmentation, preprocessing: Preprocessing) -> NDArray[np.int64]:
    """Rectangles to cover (Zhong et al., Random Erasing, AAAI 2020): top, left, height, width; (batch, 4)."""
    height_px, width_px = preprocessing.height_px, preprocessing.width_px
    # The first number decides whether, and its rest how large.
    is_erased = chance[:, 0] < settings.p_erase
    size = chance[:, 0] / max(settings.p_erase, 1e-9)
    area = (0.02 + size * (max(settings.erase_area, 0.02) - 0.02)) * height_px * width_px
    ratio = np.exp(1.4 * chance[:, 1] - 0.7)
    boxes = np.empty((len(chance), 4), np.int64)
    boxes[:, 2] = np.where(is_erased, np.minimum(np.sqrt(area * ratio), height_px), 0)
    boxes[:, 3] = np.where(is_erased, np.minimum(np.sqrt(area / ratio), width_px), 0)
    boxes[:, 0] = chance[:, 2] * (height_px - boxes[:, 2] + 1)
    boxes[:, 1] = chance[:, 3] * (width_px - boxes[:, 3] + 1)
    return boxes
