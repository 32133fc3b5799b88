"""COCO's run lengths to masks (https://github.com/cocodataset/cocoapi, common/maskApi.c), without pycocotools."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mask_of_runs(counts: str | Sequence[int], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """A mask from its run lengths: background first, column by column.

    Args:
        counts: numbers, or COCO's compressed text of them.
        height_px: height of the mask.
        width_px: width of the mask.

    Returns:
        uint8 (height_px, width_px), 255 inside.

    Raises:
        ValueError: the runs do not make a mask of this size.
    """
    runs = np.array(_counts_of_text(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != height_px * width_px:
        raise ValueError(f"the runs cover {int(runs.sum())} pixels, the picture has {height_px * width_px}")
    values = np.zeros(len(runs), np.uint8)
    values[1::2] = 255
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width_px, height_px).T)


def _counts_of_text(text: str) -> list[int]:
    """Five bits a character, sign in the last one; from the fourth number on, differences to the last but one."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        while True:
            if position >= len(text):
                raise ValueError("the compressed runs end in the middle of a number")
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise ValueError(f"the compressed runs hold the sign {text[position]!r}")
            position += 1
            value |= (bits & 0x1F) << shift
            shift += 5
            if not bits & 0x20:
                break
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
