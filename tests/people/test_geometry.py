"""Properties of polygons, cut-outs and the one preprocessing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.errors import PackageError, UsageError
from cls.people.photos import Person
from cls.people.polygons import choose_people, mask_of_polygons, outline_area, polygons_of_mask
from cls.people.preprocess import Cutout, Preprocessing, cut_out, inner_size, on_flat_background

sizes = st.integers(1, 400)
seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(-0.3, 1.3, allow_nan=False)


def _iou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(((a > 0) & (b > 0)).sum() / max(((a > 0) | (b > 0)).sum(), 1))


def _blob(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A smooth blob without holes, as masks of people are."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = rng.uniform(0.2, 0.45, 24)
    points = np.stack([0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)], axis=1)
    return mask_of_polygons([points], height, width)


def _person(*outlines: NDArray[np.float64], box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)) -> Person:
    return Person("female", 0.9, box, outlines)


@given(st.integers(40, 400), st.integers(40, 400), seeds)
@settings(max_examples=60, deadline=None)
def test_a_mask_survives_as_polygons(height: int, width: int, seed: int) -> None:
    mask = _blob(height, width, seed)
    exact = mask_of_polygons(polygons_of_mask(mask, tolerance_px=0), height, width)
    assert _iou(mask, exact) > 0.99
    coarse = mask_of_polygons(polygons_of_mask(mask, tolerance_px=1), height, width)
    assert _iou(mask, coarse) > 0.9


@given(seeds, st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_polygons_hold_at_any_size(seed: int, factor: int) -> None:
    """Fractions mean the same at every resolution."""
    small = _blob(100, 80, seed)
    large = mask_of_polygons(polygons_of_mask(small, tolerance_px=0), 100 * factor, 80 * factor)
    shrunk = np.asarray(cv2.resize(large, (80, 100), interpolation=cv2.INTER_AREA) > 127, np.uint8)
    assert _iou(small, shrunk) > 0.93


def test_area_of_a_drawn_square_and_of_its_outline() -> None:
    square = np.array([(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)])
    mask = mask_of_polygons([square], 100, 200)
    assert abs((mask > 0).mean() - 0.25) < 0.02
    assert outline_area(_person(square)) == pytest.approx(0.25)
    assert outline_area(_person(square + 5)) == pytest.approx(0.25)


def test_parts_of_a_mask_come_largest_first_and_specks_not_at_all() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[10:20, 10:20] = 1
    mask[40:90, 40:90] = 255
    mask[5:7, 80:82] = 1
    areas = [outline_area(_person(polygon)) for polygon in polygons_of_mask(mask)]
    assert len(areas) == 2
    assert areas[0] > areas[1]
    assert polygons_of_mask(np.zeros((5, 5), np.uint8)) == []


@given(
    sizes, sizes, st.lists(st.lists(st.tuples(fractions, fractions), max_size=6), max_size=3), seeds, st.floats(0, 1)
)
@settings(max_examples=150, deadline=None)
def test_every_person_can_be_cut_out_of_every_photo(
    height: int, width: int, outlines: list[list[tuple[float, float]]], seed: int, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    box = tuple(float(value) for value in rng.uniform(-50, 450, 4))
    person = _person(*(np.array(points, np.float64).reshape(-1, 2) for points in outlines), box=box)  # type: ignore[arg-type]
    cutout = cut_out(photo, person, margin_rel=margin)
    assert cutout.image_rgb.shape[:2] == cutout.mask.shape
    assert min(cutout.mask.shape) >= 1
    assert set(np.unique(cutout.mask)) <= {0, 255}
    assert Preprocessing(height_px=32, width_px=24).cut(photo, person).shape == (32, 24, 3)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_cut_out_is_the_photo_and_the_mask_at_one_place(seed: int) -> None:
    photo = np.random.default_rng(seed).integers(0, 256, (120, 90, 3), np.uint8)
    whole = _blob(120, 90, seed)
    (outline, *_) = polygons_of_mask(whole, tolerance_px=0)
    cutout = cut_out(photo, _person(outline), margin_rel=0)
    drawn = mask_of_polygons([outline], 120, 90)
    ys, xs = np.nonzero(drawn)
    rows, columns = np.nonzero(cutout.mask)
    assert np.array_equal(photo[ys, xs], cutout.image_rgb[rows, columns])


def test_without_an_outline_the_box_is_the_mask() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    cutout = cut_out(photo, _person(box=(20, 30, 60, 80)), margin_rel=0.1)
    assert cutout.mask.shape == (60, 50)
    assert abs(int((cutout.mask > 0).sum()) - 40 * 50) <= 100
    assert cutout.mask[0].max() == 0


def _letterboxed(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    kept = Preprocessing(height, width, fill_rgb=(1, 2, 3), is_background_kept=True)
    return kept.fit(Cutout(picture, np.zeros(picture.shape[:2], np.uint8)))


@given(sizes, sizes, sizes, sizes)
@example(1, 400, 400, 1)
@example(7, 7, 7, 7)
@settings(max_examples=150, deadline=None)
def test_letterbox_keeps_proportions_and_the_frame(height: int, width: int, frame_h: int, frame_w: int) -> None:
    picture = np.full((height, width, 3), 200, np.uint8)
    framed = _letterboxed(picture, frame_h, frame_w)
    assert framed.shape == (frame_h, frame_w, 3)
    inner_h, inner_w = inner_size(height, width, frame_h, frame_w)
    inside = (framed == 200).all(axis=2)
    assert inside.sum() == inner_h * inner_w
    assert ((framed == (1, 2, 3)).all(axis=2) | inside).all()
    assert inner_h == frame_h or inner_w == frame_w
    assert abs(inner_h - height * inner_w / width) <= 1 + height / width
    ys, xs = np.nonzero(inside)
    assert abs((ys[0]) - (frame_h - 1 - ys[-1])) <= 1
    assert abs((xs.min()) - (frame_w - 1 - xs.max())) <= 1


def test_letterbox_of_a_fitting_picture_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    assert np.array_equal(_letterboxed(picture, 64, 48), picture)


@given(seeds, st.tuples(*[st.integers(0, 255)] * 3))
@settings(max_examples=50, deadline=None)
def test_blending_is_exact(seed: int, color: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (30, 20, 3), np.uint8)
    mask = rng.choice([0, 255, rng.integers(0, 256)], (30, 20)).astype(np.uint8)
    weight = mask[..., None].astype(np.float64)
    expected = np.floor((image * weight + np.array(color) * (255 - weight)) / 255 + 0.5)
    assert np.array_equal(on_flat_background(Cutout(image, mask), color), expected)


@given(seeds, st.integers(20, 300), st.integers(20, 300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_preprocessing_is_one_thing(seed: int, height: int, width: int, is_kept: bool) -> None:
    """Same size whatever comes in; `cut` is `fit` of the cut-out; a contiguous copy of the photo changes nothing."""
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    person = _person(*polygons_of_mask(_blob(height, width, seed)))
    preprocessing = Preprocessing(height_px=64, width_px=48, is_background_kept=is_kept)
    cut = preprocessing.cut(photo, person)
    assert cut.shape == (64, 48, 3)
    assert cut.dtype == np.uint8
    cutout = cut_out(photo, person, margin_rel=preprocessing.margin_rel)
    copied = Cutout(np.ascontiguousarray(cutout.image_rgb), cutout.mask.copy())
    assert np.array_equal(cut, preprocessing.fit(copied))
    assert np.array_equal(cut, preprocessing.cut(photo, person))


def test_the_person_is_in_the_middle_and_the_rest_is_flat() -> None:
    photo = np.full((400, 300, 3), (0, 255, 0), np.uint8)
    square = np.array([(0.4, 0.2), (0.6, 0.2), (0.6, 0.8), (0.4, 0.8)])
    photo[80:320, 120:180] = (255, 0, 0)
    cut = Preprocessing().cut(photo, _person(square))
    assert tuple(cut[128, 96]) == (255, 0, 0)
    assert tuple(cut[0, 0]) == tuple(cut[-1, -1]) == (124, 116, 104)
    # The photo's background is seen nowhere but in the blend of the very edge.
    green = (cut[..., 1].astype(int) - cut[..., 0]) > 60
    assert green.mean() < 0.01


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_normalising_can_be_undone(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, 8, 6, 3), np.uint8)
    preprocessing = Preprocessing(height_px=8, width_px=6)
    normal = preprocessing.normalise(images)
    assert normal.shape == (2, 3, 8, 6)
    assert normal.dtype == np.float32
    back = normal.transpose(0, 2, 3, 1) * np.array(preprocessing.std_rgb) + np.array(preprocessing.mean_rgb)
    assert np.array_equal(np.round(back * 255).astype(np.uint8), images)


@given(seeds, st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_normalising_is_the_arithmetic_to_the_bit(seed: int, batch: int) -> None:
    """Also of pictures that are views with steps of their own: turned, mirrored, a part of larger ones."""
    whole = np.random.default_rng(seed).integers(0, 256, (batch, 9, 7, 3), np.uint8)
    preprocessing = Preprocessing(mean_rgb=(0.5, 0.1, 0.9), std_rgb=(0.2, 0.3, 1.0))
    mean, std = np.array(preprocessing.mean_rgb, np.float32), np.array(preprocessing.std_rgb, np.float32)
    for images in (whole, whole[:, 1:, ::2], whole[..., ::-1], whole.transpose(0, 2, 1, 3)):
        expected = ((images.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(preprocessing.normalise(images), expected)


@given(
    st.integers(1, 1000), st.integers(1, 1000), st.tuples(*[st.floats(0, 1)] * 3), st.tuples(*[st.floats(0.01, 1)] * 3),
    st.tuples(*[st.integers(0, 255)] * 3), st.floats(0, 1), st.booleans(),
)  # fmt: skip
def test_a_described_preprocessing_is_read_back(
    height: int, width: int, mean: tuple[float, float, float], std: tuple[float, float, float],
    fill: tuple[int, int, int], margin: float, is_kept: bool,
) -> None:  # fmt: skip
    preprocessing = Preprocessing(height, width, mean, std, fill, margin, is_kept)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"resize": "stretch"}, "package.unknown_preprocessing"),
        ({"colour_order": "BGR"}, "package.unknown_preprocessing"),
        ({"mean_rgb": [1, 2]}, "package.invalid_preprocessing"),
        ({"height_px": None}, "package.invalid_preprocessing"),
    ],
)
def test_an_unknown_preprocessing_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(PackageError) as caught:
        Preprocessing.from_dict({**Preprocessing().to_dict(), **change})
    assert caught.value.code == code


def _square(side: float, *, conf: float = 0.9, cls: str = "female", box_px: float = 0.0) -> Person:
    points = np.array([(0, 0), (side, 0), (side, side), (0, side)])
    return Person(cls, conf, (0, 0, box_px, box_px), (points,) if side else ())


def test_whom_a_label_is_about() -> None:
    small, large, man = _square(0.1), _square(0.5), _square(0.7, cls="male")
    assert choose_people([small, large, man]) == (man,)
    assert choose_people([small, large, man], subject="female") == (large,)
    assert choose_people([small, large, man], people="all") == (small, large, man)
    assert choose_people([small, large, man], people="all", subject="male") == (man,)
    assert choose_people([small, man], people="single") == ()
    assert choose_people([small, man], people="single", subject="male") == (man,)
    assert choose_people([]) == ()
    assert choose_people([man], subject="female") == ()
    with pytest.raises(UsageError) as caught:
        choose_people([small], people="tallest")
    assert caught.value.code == "usage.unknown_option_value"
    assert "'tallest'" in caught.value.what


def test_the_largest_among_equals_and_without_outlines() -> None:
    sure, unsure = _square(0.3, conf=0.9), _square(0.3, conf=0.5)
    assert choose_people([unsure, sure]) == (sure,)
    assert choose_people([unsure, _square(0.3, conf=0.5)])[0] is unsure
    # One without an outline: boxes decide for all.
    boxed = _square(0, box_px=300)
    assert choose_people([_square(0.9, box_px=200), boxed]) == (boxed,)
