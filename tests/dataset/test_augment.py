from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.dataset.backgrounds import FLAT, PICTURE, SAME, Augmentation, Backgrounds, BatchKey, draw_views, uniforms
from cls.dataset.batches import compose
from cls.people.preprocess import Preprocessing

PREPROCESSING = Preprocessing(64, 48)
WIDE = (80, 60, 4)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**40), st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.data()
)
def test_a_samples_numbers_are_its_own(seed: int, epoch: int, indices: list[int], data: st.DataObject) -> None:
    numbers = uniforms(seed, epoch, indices, 7)
    place = data.draw(st.integers(0, len(indices) - 1))
    np.testing.assert_array_equal(uniforms(seed, epoch, [indices[place]], 7)[0], numbers[place])
    assert ((numbers >= 0) & (numbers < 1)).all()


def test_numbers_are_even_and_independent() -> None:
    numbers = uniforms(3, 5, range(20_000), 4)
    for column in numbers.T:
        counts, _ = np.histogram(column, bins=20, range=(0, 1))
        assert abs(counts - 1000).max() < 150
    # Neither columns nor neighbours, epochs or seeds go together.
    others = [uniforms(3, 6, range(20_000), 4), uniforms(4, 5, range(20_000), 4), np.roll(numbers, 1, axis=0)]
    pairs = [(numbers[:, 0], numbers[:, 1]), *((numbers[:, 0], other[:, 0]) for other in others)]
    for one, other in pairs:
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_shares_are_as_asked_for() -> None:
    settings = Augmentation(p_flat=0.1, p_picture=0.3, p_erase=0.25, p_flip=0.5)
    views = draw_views(settings, PREPROCESSING, WIDE, BatchKey(0, tuple(range(20_000))), seed=0)
    assert np.mean(views.grounds == PICTURE) == pytest.approx(0.3, abs=0.02)
    assert np.mean(views.grounds == FLAT) == pytest.approx(0.1, abs=0.02)
    assert np.mean(views.boxes_yxhw_px[:, 2] > 0) == pytest.approx(0.25, abs=0.02)
    assert np.mean(np.linalg.det(views.matrices[:, :, :2]) < 0) == pytest.approx(0.5, abs=0.02)
    assert (views.flat_rgb[views.grounds == SAME] == PREPROCESSING.fill_rgb).all()
    top, left, height, width = views.boxes_yxhw_px.T
    assert ((top >= 0) & (left >= 0) & (top + height <= 64) & (left + width <= 48)).all()
    covered = height * width / (64 * 48)
    assert covered.max() < 0.09


def person_in_the_middle() -> np.ndarray:
    rgb_and_mask = np.full(WIDE, 77, np.uint8)
    rgb_and_mask[..., 3] = 0
    rgb_and_mask[20:60, 20:40] = (200, 100, 50, 255)
    return rgb_and_mask


def test_the_part_that_is_touched_is_all_that_matters() -> None:
    """A view made inside the person's box is the view made of the whole picture."""
    rgb_and_mask = person_in_the_middle()
    background = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    views = draw_views(Augmentation(), PREPROCESSING, WIDE, BatchKey(0, tuple(range(50))), seed=1)
    sources = [Backgrounds([background], "test")]
    in_box = compose([rgb_and_mask] * 50, [(19, 19, 41, 61)] * 50, views, PREPROCESSING, sources)
    whole = compose([rgb_and_mask] * 50, [(0, 0, 60, 80)] * 50, views, PREPROCESSING, sources)
    assert np.abs(in_box.astype(int) - whole.astype(int)).max() <= 4
    nobody = compose([rgb_and_mask] * 50, [(0, 0, 0, 0)] * 50, views, PREPROCESSING, sources)
    assert np.abs(nobody.astype(int) - whole.astype(int)).mean() > 5


def test_a_picture_is_put_behind_the_person_and_nowhere_else() -> None:
    still = dict.fromkeys(
        ["p_flip", "zoom", "stretch", "rotation_deg", "shift", "brightness", "contrast", "saturation", "p_erase"], 0.0
    )
    views = draw_views(
        Augmentation(**still, p_flat=0, p_picture=1), PREPROCESSING, WIDE, BatchKey(0, tuple(range(8))), seed=0
    )
    background = np.zeros((64, 48, 3), np.uint8)
    background[:, :24] = (0, 255, 0)
    made = compose(
        [person_in_the_middle()] * 8, [(19, 19, 41, 61)] * 8, views, PREPROCESSING, [Backgrounds([background], "test")]
    )
    assert (np.abs(made[:, 24:40, 20:28].astype(int) - (200, 100, 50)) <= 1).all()
    is_flipped = views.is_picture_flipped
    assert is_flipped.any()
    assert not is_flipped.all()
    assert (made[~is_flipped, :8, :20] == (0, 255, 0)).all()
    assert (made[is_flipped, :8, :20] == 0).all()


def test_a_kept_background_stays() -> None:
    kept = Preprocessing(64, 48, is_background_kept=True)
    views = draw_views(Augmentation(p_picture=1), kept, WIDE, BatchKey(0, tuple(range(8))), seed=0)
    black = Backgrounds([np.zeros((64, 48, 3), np.uint8)], "test")
    made = compose([person_in_the_middle()] * 8, [(0, 0, 60, 80)] * 8, views, kept, [black])
    assert (made.reshape(8, -1).min(axis=1) > 0).all()
