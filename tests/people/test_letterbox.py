"""Where a picture lies in its frame, pixel by pixel: a model trained one pixel off is a worse model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cls.errors import PackageError
from cls.people.photos import Person
from cls.people.preprocess import Cutout, Preprocessing, cut_out, in_frame, inner_size, resize_cutout

FILL = (1, 2, 3)


def numbered(height: int, width: int) -> np.ndarray:  # type: ignore[type-arg]
    """A picture in which every pixel differs from its neighbours."""
    return np.random.default_rng(height * 1000 + width).integers(100, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("inner", "frame", "top", "left"),
    [
        ((4, 6), (4, 6), 0, 0),
        ((4, 6), (5, 6), 0, 0),  # the odd pixel is at the bottom
        ((4, 6), (4, 7), 0, 0),  # and on the right
        ((4, 6), (6, 6), 1, 0),
        ((4, 6), (7, 11), 1, 2),
        ((3, 1), (10, 4), 3, 1),
        ((1, 1), (2, 2), 0, 0),
    ],
)
def test_a_picture_lies_in_the_middle_of_its_frame(
    inner: tuple[int, int], frame: tuple[int, int], top: int, left: int
) -> None:
    picture = numbered(*inner)
    expected = np.full((*frame, 3), FILL, np.uint8)
    expected[top : top + inner[0], left : left + inner[1]] = picture
    np.testing.assert_array_equal(in_frame(picture, *frame, FILL), expected)


@pytest.mark.parametrize(
    ("source", "frame", "expected"),
    [
        ((100, 50), (64, 48), (64, 32)),
        ((50, 100), (64, 48), (24, 48)),
        ((64, 48), (64, 48), (64, 48)),
        ((10, 10), (64, 48), (48, 48)),
        ((30, 10), (60, 48), (60, 20)),
        ((100, 37), (64, 48), (64, 24)),  # 23.68
        ((100, 36), (64, 48), (64, 23)),  # 23.04
        ((1000, 1), (64, 48), (64, 1)),  # at least a pixel
        ((1, 1000), (64, 48), (1, 48)),
    ],
)
def test_the_size_inside_a_frame(source: tuple[int, int], frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert inner_size(*source, *frame) == expected


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 60)] * 4)
@example(30, 100, 24, 80)
@example(100, 30, 80, 24)
@example(3, 40, 9, 44)
@example(40, 3, 44, 9)
def test_the_first_version_is_resize_and_border(height: int, width: int, frame_h: int, frame_w: int) -> None:
    """Averaged over areas only where both sides shrink, or stay."""
    picture = numbered(height, width)
    scale = min(frame_h / height, frame_w / width)
    inner_h, inner_w = (
        max(1, min(limit, round(side * scale))) for side, limit in ((height, frame_h), (width, frame_w))
    )
    interpolation = cv2.INTER_AREA if inner_h <= height and inner_w <= width else cv2.INTER_LINEAR
    inner = cv2.resize(picture, (inner_w, inner_h), interpolation=interpolation)
    expected = np.full((frame_h, frame_w, 3), FILL, np.uint8)
    top, left = (frame_h - inner_h) // 2, (frame_w - inner_w) // 2
    expected[top : top + inner_h, left : left + inner_w] = inner
    first = Preprocessing(frame_h, frame_w, fill_rgb=FILL, is_background_kept=True, version=1)
    found = first.fit(Cutout(picture, np.full((height, width), 255, np.uint8)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(5, 5), (10, 7), (8, 8), (12, 9), (7, 12), (12, 5)])
def test_the_first_version_resizes_picture_and_mask_alike(size: tuple[int, int]) -> None:
    image, mask = numbered(10, 7), numbered(10, 7)[..., 0]
    interpolation = cv2.INTER_AREA if size[0] <= 10 and size[1] <= 7 else cv2.INTER_LINEAR
    found = resize_cutout(Cutout(image, mask), *size, version=1)
    np.testing.assert_array_equal(found.image_rgb, cv2.resize(image, size[::-1], interpolation=interpolation))
    np.testing.assert_array_equal(found.mask, cv2.resize(mask, size[::-1], interpolation=interpolation))


def test_fit_resizes_blends_and_frames() -> None:
    """A cut-out of 10 by 4 in a frame of 7 by 6 is 7 by 3 (2.8), a pixel from the left, two from the right."""
    cutout = Cutout(numbered(10, 4), np.repeat(np.array([255, 255, 0, 0], np.uint8)[None], 10, axis=0))
    fill = (10, 20, 30)
    small = resize_cutout(cutout, 7, 3)
    weight = small.mask[..., None].astype(float) / 255
    blended = np.floor(small.image_rgb * weight + np.array(fill) * (1 - weight) + 0.5)
    for is_kept, inner in ((False, blended), (True, small.image_rgb)):
        found = Preprocessing(7, 6, fill_rgb=fill, is_background_kept=is_kept).fit(cutout)
        expected = np.full((7, 6, 3), fill, np.uint8)
        expected[:, 1:4] = inner
        np.testing.assert_array_equal(found, expected)


def test_defaults_and_what_is_written_of_them() -> None:
    """Those of ImageNet's networks, for people: upright, with a little of what is around them."""
    expected = {
        "resize": "letterbox-2",
        "colour_order": "RGB",
        "layout": "NCHW",
        "scale": "1/255",
        "height_px": 256,
        "width_px": 192,
        "mean_rgb": [0.485, 0.456, 0.406],
        "std_rgb": [0.229, 0.224, 0.225],
        "fill_rgb": [124, 116, 104],
        "margin_rel": 0.05,
        "is_background_kept": False,
    }
    written = Preprocessing().to_dict()
    assert {key: written[key] for key in expected} == expected
    assert Preprocessing(is_background_kept=True).to_dict()["background"] == "kept"


def test_how_much_is_kept_around_a_person() -> None:
    """A tenth of the longer side, 20, is 2 pixels on each side; by default a twentieth is 1."""
    photo = np.zeros((100, 100, 3), np.uint8)
    person = Person("female", 0.9, (30, 40, 40, 60), ())
    assert cut_out(photo, person, margin_rel=0.1).mask.shape == (24, 14)
    assert cut_out(photo, person).mask.shape == (22, 12)


def test_a_cutout_starts_at_the_photos_corner_unless_it_says_otherwise() -> None:
    cutout = Cutout(numbered(2, 3), np.zeros((2, 3), np.uint8))
    assert (cutout.left_px, cutout.top_px) == (0, 0)


def test_a_preprocessing_of_the_future_is_refused_by_its_number() -> None:
    with pytest.raises(PackageError) as refused:
        Preprocessing.from_dict({**Preprocessing().to_dict(), "version": 3})
    assert refused.value.code == "package.unknown_preprocessing_version"
    assert "version 3" in refused.value.what
    assert refused.value.hint == "update CLS"
