from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cls.yolo.coco import mask_of_runs


def runs_of_mask(mask: np.ndarray) -> list[int]:
    """COCO's run lengths of a mask, the slow and plain way."""
    runs, value = [0], 0
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def text_of_runs(runs: list[int]) -> str:
    """COCO's compressed text of run lengths (maskApi.c, rleToString)."""
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            bits, value = value & 0x1F, value >> 5
            is_last = value == (-1 if bits & 0x10 else 0)
            text += chr((bits if is_last else bits | 0x20) + 48)
            if is_last:
                break
    return text


masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 90)))


@given(masks)
def test_masks_come_back(mask: np.ndarray) -> None:
    height, width = mask.shape
    runs = runs_of_mask(mask)
    assert ((mask_of_runs(runs, height, width) > 0) == mask).all()
    assert ((mask_of_runs(text_of_runs(runs), height, width) > 0) == mask).all()


def test_a_known_text() -> None:
    # pycocotools.mask.encode of a 3x4 mask with a 2x2 block at row 1, column 1.
    mask = np.zeros((3, 4), bool)
    mask[1:3, 1:3] = True
    assert runs_of_mask(mask) == [4, 2, 1, 2, 3]
    assert text_of_runs(runs_of_mask(mask)) == "42102"
    assert ((mask_of_runs("42102", 3, 4) > 0) == mask).all()


@pytest.mark.parametrize("runs", [[5], [4, -1, 9], "4", "4\x7f", "4p"])
def test_runs_that_make_no_mask_are_refused(runs: list[int] | str) -> None:
    with pytest.raises(ValueError):
        mask_of_runs(runs, 3, 4)
