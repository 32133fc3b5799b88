from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cls.segmentation.segmenter import Letterbox

sides = st.integers(1, 4000)


@given(sides, sides, st.integers(32, 640), st.sampled_from([8, 32]))
def test_the_photo_fits_and_fills_one_side(height_px: int, width_px: int, size_px: int, stride_px: int) -> None:
    box = Letterbox.around(height_px, width_px, size_px, stride_px)
    inner_height_px, inner_width_px = box.inner_px
    assert box.input_height_px % stride_px == box.input_width_px % stride_px == 0
    assert inner_height_px <= box.input_height_px
    assert inner_width_px <= box.input_width_px
    assert max(box.input_height_px, box.input_width_px) < size_px + stride_px
    # No border wider than what rounding up to a stride asks for.
    assert min(box.input_height_px - inner_height_px, box.input_width_px - inner_width_px) < stride_px


@given(sides, sides, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back_to_the_photo(height_px: int, width_px: int, parts: list[float]) -> None:
    box = Letterbox.around(height_px, width_px, 288, 32)
    photo = np.array(parts) * (width_px, height_px, width_px, height_px)
    left_px, top_px = box.offset_px
    on_input = (photo * box.scale + (left_px, top_px, left_px, top_px)).astype(np.float32)
    back = box.to_photo(on_input[None])[0]
    assert np.allclose(back, photo, atol=1e-3 * max(height_px, width_px))


def test_a_photo_lies_centred_between_grey_borders() -> None:
    photo = np.full((100, 50, 3), 200, np.uint8)
    frame = Letterbox(100, 50, 64, 64).apply(photo)
    assert frame.shape == (64, 64, 3)
    assert (frame[:, 16:48] == 200).all()
    assert (frame[:, :16] == 114).all()
    assert (frame[:, 48:] == 114).all()


def test_a_photo_of_the_right_size_is_left_alone() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    assert (Letterbox.around(64, 96, 96, 32).apply(photo) == photo).all()
