"""The decoder against the same arithmetic written out, and its rules one by one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from cls.errors import SegmentationError
from cls.segmentation import segmenter
from cls.segmentation.segmenter import (
    Candidates,
    Letterbox,
    _cropped,
    _mask_iou,
    candidates_of,
    non_max_suppression,
    objects_of,
)

CORNERS = np.array([[0.0, 0.0], [1.0, 0.25], [0.5, 1.0]])


def candidates(
    boxes: list[list[float]], scores: list[float], numbers: list[int], coefficients: list[list[float]] | None = None
) -> Candidates:
    return Candidates(
        np.array(boxes, np.float32),
        np.array(scores, np.float32),
        np.array(numbers, np.int64),
        np.array(coefficients if coefficients is not None else [[1.0]] * len(scores), np.float32),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_dense_layout(seed: int) -> None:
    """Three classes, two coefficients: centre, size, scores, coefficients; what reaches the confidence, best first."""
    rng = np.random.default_rng(seed)
    answer = rng.random((4 + 3 + 2, 12)).astype(np.float32)
    answer[4:7] = np.round(answer[4:7], 1)
    found = candidates_of(answer, 3, 2, confidence=float(np.float32(0.8)))
    rows = [
        (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, max(scores), int(np.argmax(scores)), *rest)
        for cx, cy, w, h, *scores, first, second in answer.T
        if max(scores) >= np.float32(0.8)
        for rest in [(first, second)]
    ]
    rows.sort(key=lambda row: -row[4])  # a stable sort: equal ones as they came
    expected = np.array(rows, np.float32).reshape(-1, 8)
    np.testing.assert_allclose(found.boxes_xyxy_px, expected[:, :4], rtol=1e-6)
    np.testing.assert_array_equal(found.scores, expected[:, 4])
    np.testing.assert_array_equal(found.class_numbers, expected[:, 5])
    np.testing.assert_array_equal(found.coefficients, expected[:, 6:])
    assert found.class_numbers.dtype == np.int64


def test_the_end_to_end_layout() -> None:
    rows = np.array([[1, 2, 3, 4, 0.5, 2, 7, 8], [5, 6, 7, 8, 0.75, 0, 9, 10], [0, 0, 1, 1, 0.25, 1, 0, 0]], np.float32)
    found = candidates_of(rows, 3, 2, confidence=0.5)
    assert found.boxes_xyxy_px.tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    assert (found.scores.tolist(), found.class_numbers.tolist()) == ([0.75, 0.5], [0, 2])
    assert found.coefficients.tolist() == [[9, 10], [7, 8]]
    with pytest.raises(SegmentationError) as caught:
        candidates_of(rows, 3, 3, confidence=0.5)
    assert caught.value.code == "segmentation.unknown_output_layout"
    assert re.findall(r"\(3, 8\)|\d+ (?:classes|mask prototypes)", caught.value.what) == [
        "(3, 8)", "3 classes", "3 mask prototypes",
    ]  # fmt: skip


def test_doubles_by_the_overlap_of_boxes() -> None:
    """Of 10x10 boxes side by side, intersection over union is (10 - d) / (10 + d): 0.739 at 1.5, 0.667 at 2."""
    at = [[0, 5, 10, 15], [1.5, 5, 11.5, 15], [2, 5, 12, 15], [0, 7, 10, 17], [0, 6.5, 10, 16.5]]
    kept = non_max_suppression(candidates(at, [0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5))
    # The second is a double of the first; so is the last; the third and the fourth overlap less than 0.7.
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])


@pytest.mark.parametrize("place", [0.0, 50.0, -30.0])
def test_classes_do_not_suppress_each_other(place: float) -> None:
    box = [place, place + 10, place + 10, place + 40]
    kept = non_max_suppression(candidates([box] * 4, [0.9, 0.8, 0.7, 0.6], [0, 2, 1, 2]))
    assert list(zip(kept.class_numbers.tolist(), np.round(kept.scores, 1).tolist(), strict=True)) == [
        (0, pytest.approx(0.9)),
        (2, pytest.approx(0.8)),
        (1, pytest.approx(0.7)),
    ]


def test_at_most_300_people_of_the_best_3000_candidates() -> None:
    apart = [[20.0 * n, 0, 20.0 * n + 10, 10] for n in range(400)]
    scores = np.linspace(0.9, 0.5, 400).tolist()
    kept = non_max_suppression(candidates(apart, scores, [0] * 400))
    np.testing.assert_allclose(kept.scores, np.float32(scores[:300]))
    doubles = [[0.0, 0, 10, 10]] * 2999 + [[50.0, 0, 60, 10], [90.0, 0, 100, 10]]
    kept = non_max_suppression(candidates(doubles, np.linspace(0.9, 0.5, 3001).tolist(), [0] * 3001))
    assert kept.boxes_xyxy_px.tolist() == [doubles[0], doubles[2999]]


def test_the_part_of_a_mask_that_is_in_the_box() -> None:
    """Prototypes of 4 x 8 for an input of 16 x 64 (height x width): 4 pixels down, 8 across."""
    mask = np.ones((4, 8), bool)
    box = Letterbox(16, 64, 16, 64)

    def kept(*corners: float) -> list[tuple[int, int]]:
        return [(int(row), int(column)) for row, column in np.argwhere(_cropped(mask, np.array(corners), box))]

    assert kept(8, 4, 24, 8) == [(1, 1), (1, 2)]
    assert kept(9, 5, 17, 7) == [(1, 1), (1, 2)], "pixels that the box touches"
    assert kept(-20, -20, 7, 3) == [(0, 0)], "a box that begins outside"
    assert kept(-20, -20, -1, 16) == []
    assert kept(-60, -20, -20, 16) == kept(0, -60, 64, -20) == [], "a box beside the input"
    assert kept(56, 12, 200, 200) == [(3, 7)]
    assert _cropped(~mask, np.array([0, 0, 64, 16.0]), box).sum() == 0
    assert mask.all(), "the mask itself stays whole"


def test_overlap_of_masks() -> None:
    first, second = np.zeros((2, 10), bool), np.zeros((2, 10), bool)
    first[0, :4] = second[0, 1:6] = True
    assert _mask_iou(first, second) == 3 / 6
    assert _mask_iou(first, first) == 1
    assert _mask_iou(first, ~first) == 0
    assert _mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0.0


BOX = Letterbox(64, 64, 64, 64)


def rectangle(columns: slice, size: int = 16) -> NDArray[np.float32]:
    logits = np.full((size, size), -0.5, np.float32)
    logits[2:14, columns] = 0.5
    return logits


@pytest.mark.parametrize(
    ("columns", "numbers", "expected"),
    [
        (slice(0, 10), (0, 1), [0]),  # the same pixels
        (slice(0, 9), (0, 1), [0]),  # 9 of 10 columns: 0.9
        (slice(0, 8), (0, 1), [0, 1]),  # 0.8 is not above 0.8
        (slice(0, 9), (1, 1), [1, 1]),  # of one class: boxes decided that
    ],
)
def test_one_person_under_two_classes(columns: slice, numbers: tuple[int, int], expected: list[int]) -> None:
    whole = [0.0, 0, 64, 64]
    two = candidates([whole, whole], [0.9, 0.8], list(numbers), [[1, 0], [0, 1]])
    found = objects_of(two, np.stack([rectangle(slice(0, 10)), rectangle(columns)]), BOX)
    assert [one.class_number for one in found] == expected
    assert found[0].score == pytest.approx(0.9)


def test_whoever_comes_after_a_double_is_found() -> None:
    whole = [0.0, 0, 64, 64]
    three = candidates([whole] * 3, [0.9, 0.8, 0.7], [0, 1, 2], [[1, 0], [1, 0], [0, 1]])
    found = objects_of(three, np.stack([rectangle(slice(0, 5)), rectangle(slice(8, 13))]), BOX)
    assert [one.class_number for one in found] == [0, 2]


def test_what_is_nought_is_outside() -> None:
    whole = [0.0, 0, 64, 64]
    two = candidates([whole, whole], [0.9, 0.8], [0, 1], [[1, 0], [0, 1]])
    prototypes = np.maximum(np.stack([rectangle(slice(0, 5)), rectangle(slice(8, 13))]), 0)
    assert [one.class_number for one in objects_of(two, prototypes, BOX)] == [0, 1]


def test_who_is_left_out_does_not_hide_others() -> None:
    """An empty mask is nobody, and what comes after it is compared with those that were found."""
    whole = [0.0, 0, 64, 64]
    three = candidates([whole] * 3, [0.9, 0.8, 0.7], [0, 1, 0], [[-1, -1], [1, 0], [0, 1]])
    prototypes = np.stack([rectangle(slice(0, 10)), rectangle(slice(0, 10))])
    prototypes[prototypes < 0] = 0  # with coefficients of -1 nothing is above 0
    found = objects_of(three, prototypes, BOX)
    assert [(one.class_number, round(one.score, 1)) for one in found] == [(1, 0.8)]


class Seen:
    """What the outlining is asked for, in place of it."""

    def __init__(self) -> None:
        self.masks: list[NDArray[np.uint8]] = []

    def __call__(self, mask: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        self.masks.append(mask.copy())
        return [CORNERS]


CASES: list[tuple[Letterbox, tuple[float, float, float, float]]] = [
    (Letterbox(96, 128, 96, 128), (10.0, 20.0, 70.0, 80.0)),  # no scaling
    (Letterbox(192, 256, 96, 128), (30.0, 40.0, 200.0, 150.0)),  # halved
    (Letterbox(50, 40, 96, 128), (3.0, 7.0, 31.0, 44.0)),  # enlarged, borders left and right
    (Letterbox(24, 32, 96, 128), (1.0, 2.0, 31.0, 23.0)),  # a pixel of the photo is one of the prototypes
    (Letterbox(300, 100, 96, 128), (11.5, 33.5, 80.5, 250.5)),
    (Letterbox(40, 128, 96, 128), (64.0, 5.0, 120.0, 37.0)),  # borders above and below
    (Letterbox(1500, 2000, 96, 128), (100.0, 200.0, 1700.0, 1000.0)),  # larger than 640
    (Letterbox(2000, 1500, 128, 96), (200.0, 100.0, 1000.0, 1700.0)),
    (Letterbox(4000, 4000, 128, 128), (0.0, 1300.0, 4000.0, 1309.0)),  # 9 rows drawn as one
]


@pytest.mark.parametrize(("box", "corners"), CASES)
def test_a_mask_is_looked_up_in_the_prototypes(
    box: Letterbox, corners: tuple[float, float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixel by pixel: photo -> input -> prototypes, at pixel centres, linear between them."""
    seen = Seen()
    monkeypatch.setattr(segmenter, "polygons_of_mask", seen)
    rng = np.random.default_rng(1)
    rows, columns = box.input_height_px // 4, box.input_width_px // 4
    coarse = map_coordinates(rng.normal(size=(6, 8)), np.mgrid[0 : 5 : rows * 1j, 0 : 7 : columns * 1j], order=3)
    logits = coarse.astype(np.float32)
    photo_box = np.array(corners)
    polygons = segmenter._outlines(logits, photo_box, box)

    left, top = np.floor(corners[0]), np.floor(corners[1])
    width, height = np.ceil(corners[2]) - left, np.ceil(corners[3]) - top
    (mask,) = seen.masks
    fineness = min(1.0, 640 / max(width, height))
    assert mask.shape == (round(height * fineness), round(width * fineness))
    ys, xs = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    photo_x = left + (xs + 0.5) * width / mask.shape[1]
    photo_y = top + (ys + 0.5) * height / mask.shape[0]
    (border_x, border_y), scale = box.offset_px, box.scale
    places = np.stack([(photo_y * scale + border_y) / 4 - 0.5, (photo_x * scale + border_x) / 4 - 0.5])
    # OpenCV rounds places to a 32nd of a pixel: where that decides the sign, either side is right.
    around = [(0, 0), *((y / 60, x / 60) for y in (-1, 1) for x in (-1, 1))]
    signs = [
        map_coordinates(logits.astype(np.float64), places + np.reshape(by, (2, 1, 1)), order=1, mode="nearest") > 0
        for by in around
    ]
    is_clear = np.all(signs, axis=0) | ~np.any(signs, axis=0)
    assert is_clear.mean() > 0.9
    np.testing.assert_array_equal(mask[is_clear], signs[0][is_clear])

    (polygon,) = polygons
    for (x, y), (relative_x, relative_y) in zip(polygon.tolist(), CORNERS.tolist(), strict=True):
        assert x * box.photo_width_px == pytest.approx(left + relative_x * width)
        assert y * box.photo_height_px == pytest.approx(top + relative_y * height)


@pytest.mark.parametrize(
    ("corners", "is_seen"),
    [((5, 5, 5, 20), False), ((5, 5, 20, 5), False), ((5, 5, 6, 20), True), ((5, 5, 20, 6), True)],
)
def test_boxes_without_a_pixel_have_no_outline(
    corners: tuple[float, ...], is_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    monkeypatch.setattr(segmenter, "polygons_of_mask", seen)
    found = segmenter._outlines(np.ones((16, 16), np.float32), np.array(corners, np.float64), BOX)
    assert (len(found), len(seen.masks)) == ((1, 1) if is_seen else (0, 0))
    if is_seen:
        assert seen.masks[0].all()
        assert seen.masks[0].shape == (corners[3] - corners[1], corners[2] - corners[0])


def test_a_long_thin_box_keeps_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    monkeypatch.setattr(segmenter, "polygons_of_mask", seen)
    box = Letterbox(4000, 4000, 64, 64)
    segmenter._outlines(np.ones((16, 16), np.float32), np.array([0.0, 0, 4000, 2]), box)
    segmenter._outlines(np.ones((16, 16), np.float32), np.array([0.0, 0, 2, 4000]), box)
    assert [mask.shape for mask in seen.masks] == [(1, 640), (640, 1)]


def test_boxes_and_scores_of_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "polygons_of_mask", Seen())
    box = Letterbox(128, 64, 64, 64)  # halved, 16 grey columns on each side
    two = candidates([[20, 4, 40, 60], [-50, -50, 500, 500]], [0.75, 0.5], [3, 4], [[2.0], [1.0]])
    prototypes = np.ones((1, 16, 16), np.float32)
    found = objects_of(two, prototypes, box)
    assert [one.class_number for one in found] == [3, 4]
    assert [one.score for one in found] == [0.75, 0.5]
    assert found[0].box_xyxy_px == (8.0, 8.0, 48.0, 120.0)
    assert found[1].box_xyxy_px == (0.0, 0.0, 64.0, 128.0)
    assert all(isinstance(value, float) for one in found for value in (*one.box_xyxy_px, one.score))


def test_the_mask_is_the_weighted_sum_of_prototypes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    monkeypatch.setattr(segmenter, "polygons_of_mask", seen)
    prototypes = np.stack([rectangle(slice(0, 4)), rectangle(slice(8, 12)), rectangle(slice(4, 6))])
    one = candidates([[0, 0, 64, 64]], [0.9], [0], [[1.0, 2.0, -0.5]])
    objects_of(one, prototypes, BOX)
    logits = prototypes[0] + 2 * prototypes[1] - 0.5 * prototypes[2]
    centres = seen.masks[0][1::4, 1::4] | seen.masks[0][2::4, 2::4]
    np.testing.assert_array_equal(centres[4:12, 1:3], (logits > 0)[4:12, 1:3])
    np.testing.assert_array_equal(centres[4:12, 9:11], (logits > 0)[4:12, 9:11])
    assert not centres[4:12, 4:6].any()


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        ((100, 200), (64, 128)),
        ((200, 100), (128, 64)),
        ((100, 201), (64, 128)),
        ((128, 128), (128, 128)),
        ((104, 200), (96, 128)),
        ((1, 4000), (32, 128)),
    ],
)
def test_the_smallest_input_in_whole_strides(photo: tuple[int, int], expected: tuple[int, int]) -> None:
    """The longer side becomes 128: 100 x 200 is 64 x 128, 104 x 200 is 66.6 x 128."""
    box = Letterbox.around(*photo, 128, 32)
    assert (box.photo_height_px, box.photo_width_px) == photo
    assert (box.input_height_px, box.input_width_px) == expected


@pytest.mark.parametrize(
    ("box", "scale", "inner", "offset"),
    [
        (Letterbox(100, 50, 64, 64), 0.64, (64, 32), (16, 0)),
        (Letterbox(50, 100, 64, 64), 0.64, (32, 64), (0, 16)),
        (Letterbox(10, 10, 64, 96), 6.4, (64, 64), (16, 0)),
        (Letterbox(10, 11, 32, 32), 32 / 11, (29, 32), (0, 1)),  # an odd row: it is at the bottom
        (Letterbox(11, 10, 32, 32), 32 / 11, (32, 29), (1, 0)),
        (Letterbox(1, 5000, 32, 128), 128 / 5000, (1, 128), (0, 15)),
        (Letterbox(5000, 1, 128, 32), 128 / 5000, (128, 1), (15, 0)),
    ],
)
def test_how_a_photo_lies_in_the_input(
    box: Letterbox, scale: float, inner: tuple[int, int], offset: tuple[int, int]
) -> None:
    assert box.scale == pytest.approx(scale)
    assert box.inner_px == inner
    assert box.offset_px == offset
    photo = np.full((box.photo_height_px, box.photo_width_px, 3), 200, np.uint8)
    expected = np.full((box.input_height_px, box.input_width_px, 3), 114, np.uint8)
    left, top = offset
    expected[top : top + inner[0], left : left + inner[1]] = 200
    np.testing.assert_array_equal(box.apply(photo), expected)


def test_a_photo_is_scaled_linearly() -> None:
    import cv2

    photo = np.random.default_rng(0).integers(0, 256, (100, 60, 3), np.uint8)
    frame = Letterbox(100, 60, 32, 32).apply(photo)
    np.testing.assert_array_equal(frame[:, 6:25], cv2.resize(photo, (19, 32), interpolation=cv2.INTER_LINEAR))


def test_boxes_are_cut_off_at_the_photo() -> None:
    box = Letterbox(100, 50, 64, 64)
    found = box.to_photo(np.array([[0, -10, 64, 100], [16, 0, 48, 64], [17.28, 3.2, 40, 60.8]], np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[0, 0, 50, 100], [0, 0, 50, 100], [2, 5, 37.5, 95]], atol=1e-5)
