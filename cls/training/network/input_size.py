"""`--size auto`: the input has the people's aspect ratio, so that no pixels are spent on a letterbox's borders.

The box of a standing person is two and a half times as high as wide: half of a 256x192 input is border. In the people's
aspect ratio, the same number of pixels shows them a third larger.
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
# The stride of most backbones.
_STRIDE_PX = 32
# Half of it keeps the aspect ratio closer.
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
    """`256x192`, `(256, 192)`, `auto` or `auto:PIXELS` -> height and width in pixels, and pixels of `auto` (else 0).

    Raises:
        UsageError: it is none of these.
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
    """(height, width) in pixels, multiples of 16, with the people's median aspect ratio, at most 3 to 1.

    Args:
        samples: people; those without a box do not count (if none has one, the ratio is 4 to 3).
        pixels: about how many pixels the input has.
        margin_rel: margin around a person, as a fraction of the longer side.
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
