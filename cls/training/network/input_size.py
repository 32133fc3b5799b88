"""`--size auto`: the input has the people's own proportions, so that no pixels are spent on a letterbox's borders.

A standing person cut out by the box is two and a half times as high as wide: in an input of 256x192 half of all pixels
are border. The same number of pixels in the people's own proportions shows them a third larger, at the same cost.
"""

from __future__ import annotations

import math
from numbers import Integral
from statistics import median
from typing import TYPE_CHECKING

from cls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cls.dataset.samples import Sample

AUTO = "auto"
DEFAULT_SIZE_PX = (256, 192)
DEFAULT_PIXELS = math.prod(DEFAULT_SIZE_PX)
_LEAST_PIXELS, _MOST_PIXELS = 32 * 32, 2048 * 2048
# Backbones halve their input five times; a side that is not a multiple of 2^5 is padded at some of them.
_STRIDE_PX = 32
# Half a stride more is still cheap at the sides' small sizes, and keeps the proportions closer.
_STEP_PX = 16
_LOWEST_ASPECT, _HIGHEST_ASPECT = 1 / 3, 3.0


def is_pixels(value: object) -> bool:
    """Whether an input may have so many pixels."""
    return type(value) is int and _LEAST_PIXELS <= value <= _MOST_PIXELS


def pixels_of(text: str) -> int | None:
    """`auto` and `auto:PIXELS` -> how many pixels an input has; None for any other text."""
    word, colon, pixels = text.lower().partition(":")
    if word != AUTO:
        return None
    if not colon:
        return DEFAULT_PIXELS
    if pixels.isdecimal() and is_pixels(int(pixels)):
        return int(pixels)
    raise UsageError(
        f"--size: expected auto:PIXELS such as auto:{DEFAULT_PIXELS}, found '{text}'", code="invalid_option_value"
    )


def parse_size(size: object) -> tuple[int, int, int]:
    """A size as it is given -> height and width in pixels, and how many pixels `auto` may use (0: it is not `auto`).

    Args:
        size: `256x192`, `(256, 192)`, `auto` or `auto:PIXELS`.

    Raises:
        UsageError: it is no size.
    """
    if isinstance(size, str):
        pixels = pixels_of(size)
        if pixels is not None:
            return *DEFAULT_SIZE_PX, pixels
        height, _, width = size.lower().partition("x")
        if height.strip().isdecimal() and width.strip().isdecimal():
            return int(height), int(width), 0
    elif isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, Integral) for side in size):
        return int(size[0]), int(size[1]), 0
    raise UsageError(
        f"--size: expected HEIGHTxWIDTH such as 256x192 or auto, found {size!r}", code="invalid_option_value"
    )


def size_for(samples: Sequence[Sample], pixels: int, *, margin_rel: float) -> tuple[int, int]:
    """The input that shows the typical person largest.

    Args:
        samples: the people, with boxes in pixels of their photos; those without a box are passed over.
        pixels: about how many pixels the input has.
        margin_rel: surroundings kept around a person, fraction of the longer side.

    Returns:
        (height, width) in pixels, multiples of 16, in the people's median proportions, at most 3 to 1; 4 to 3
        where no person has a box.
    """
    aspects = [aspect for sample in samples if (aspect := _aspect(sample, margin_rel)) is not None]
    aspect = median(aspects) if aspects else 4 / 3
    aspect = min(max(aspect, _LOWEST_ASPECT), _HIGHEST_ASPECT)
    height_px = _rounded(math.sqrt(pixels * aspect))
    return height_px, _rounded(pixels / height_px)


def _aspect(sample: Sample, margin_rel: float) -> float | None:
    """Height by width of a person's cut-out; None without a box."""
    left, top, right, bottom = sample.person.box_xyxy_px
    width_px, height_px = right - left, bottom - top
    if width_px <= 0 or height_px <= 0:
        return None
    margin_px = 2 * margin_rel * max(width_px, height_px)
    return (height_px + margin_px) / (width_px + margin_px)


def _rounded(side_px: float) -> int:
    return max(round(side_px / _STEP_PX) * _STEP_PX, _STRIDE_PX)
