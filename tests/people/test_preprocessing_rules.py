"""The preprocessing to the pixel: both versions, in pictures small enough to count."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.errors import PackageError, UsageError
from cls.people.photos import Person
from cls.people.polygons import (
    choose_people,
    draw_polygons,
    fill_outlines,
    in_units,
    mask_of_polygons,
    outline_area,
    polygons_of_mask,
)
from cls.people.preprocess import (
    Cutout,
    Preprocessing,
    cut_out,
    in_frame,
    inner_size,
    on_flat_background,
    resize_cutout,
)

Points = list[tuple[int, int]]


def _rows(mask: NDArray[np.uint8]) -> list[str]:
    assert set(np.unique(mask)) <= {0, 255}
    return ["".join("#" if value else "." for value in row) for row in mask]


def _units(*points_px: tuple[float, float]) -> NDArray[np.int64]:
    return in_units(np.array(points_px, np.float64))


def _person(*outlines_px: list[tuple[float, float]], height: int, width: int) -> Person:
    return Person("", 1.0, (0.0, 0.0, 0.0, 0.0), tuple(np.array(points) / (width, height) for points in outlines_px))


def _is_inside(points: Points, x: int, y: int) -> bool:
    """The rule, said in fractions: even-odd, or on an edge."""
    count = 0
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        is_beside = min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2)
        if is_beside and (x2 - x1) * (y - y1) == (y2 - y1) * (x - x1):
            return True
        if (y1 <= y) != (y2 <= y) and x1 + Fraction((y - y1) * (x2 - x1), y2 - y1) < x:
            count += 1
    return count % 2 == 1


_coordinates = st.one_of(
    st.integers(-700, 2800),
    st.integers(-3, 11).map(lambda c: c * 256 + 128),
    st.integers(-6, 22).map(lambda c: c * 128),
)


@given(st.lists(st.tuples(_coordinates, _coordinates), min_size=3, max_size=8), st.integers(1, 9), st.integers(1, 9))
@example([(128, 128), (128 + 256 * 3, 128), (128 + 256 * 3, 128 + 256 * 2), (128, 128 + 256 * 2)], 5, 6)
@settings(max_examples=300, deadline=None)
def test_a_pixel_is_the_persons_where_its_centre_is_inside_or_on_the_outline(
    points: Points, height: int, width: int
) -> None:
    mask = fill_outlines([np.array(points, np.int64)], height, width)
    expected = [
        "".join("#" if _is_inside(points, c * 256 + 128, r * 256 + 128) else "." for c in range(width))
        for r in range(height)
    ]
    assert _rows(mask) == expected


def test_outlines_add_up_and_one_that_crosses_itself_has_a_hole() -> None:
    left, right = _units((0, 0), (3, 0), (3, 2), (0, 2)), _units((2, 1), (5, 1), (5, 3), (2, 3))
    assert _rows(fill_outlines([left, right], 3, 6)) == ["###...", "#####.", "..###."]
    twice = _units((0, 0), (6, 0), (6, 5), (0, 5), (0, 0), (2, 1), (2, 4), (4, 4), (4, 1), (2, 1))
    assert _rows(fill_outlines([twice], 5, 6)) == ["######", "##..##", "##..##", "##..##", "######"]
    assert fill_outlines([], 2, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert fill_outlines([left], 2, 3).dtype == np.uint8


def test_outlines_far_outside_are_filled_inside_the_picture() -> None:
    everything = _units((-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9))
    assert np.abs(everything).max() == 1 << 28
    assert fill_outlines([everything], 3, 4).min() == 255
    # The slanting edge of a triangle over all the picture goes through the corner of the fourth pixel.
    half = _units((-1e6, -1e6), (1e6, 1e6), (-1e6, 1e6))
    assert _rows(fill_outlines([half], 3, 4)) == ["#...", "##..", "###."]
    assert fill_outlines([_units((0, 9), (4, 9), (2, 12))], 3, 4).max() == 0
    assert fill_outlines([_units((9, 0), (12, 0), (9, 3))], 3, 4).max() == 0


def test_coordinates_are_rounded_to_units_halves_upwards() -> None:
    points = np.array([(1 / 512, -1 / 512), (3 / 512, -3 / 512), (1.0, 2.25), (0.4999 / 256, 7.5001 / 256)])
    assert in_units(points).tolist() == [[1, 0], [2, -1], [256, 576], [0, 8]]
    assert in_units(points).dtype == np.int64


@pytest.mark.parametrize("outline", [[(1.5, 1.5), (3.5, 1.5), (3.5, 2.5), (1.5, 2.5)]])
def test_an_outline_through_the_centres_of_a_masks_edge_gives_the_mask(outline: list[tuple[float, float]]) -> None:
    assert _rows(fill_outlines([_units(*outline)], 4, 5)) == [".....", ".###.", ".###.", "....."]


def test_a_masks_outline_drawn_again_is_the_mask() -> None:
    mask = np.zeros((12, 14), np.uint8)
    mask[2:9, 3:11] = 1
    mask[4:6, 5:7] = 0  # a hole is filled
    (polygon,) = polygons_of_mask(mask, tolerance_px=0, min_area_px=1)
    assert sorted(map(tuple, (polygon * (14, 12)).round(9).tolist())) == [
        (3.5, 2.5), (3.5, 8.5), (10.5, 2.5), (10.5, 8.5),
    ]  # fmt: skip
    mask[4:6, 5:7] = 1
    assert np.array_equal(fill_outlines([in_units(polygon * (14, 12))], 12, 14), mask * 255)


def test_outlines_of_parts_largest_first_without_specks() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[1:6, 1:6] = 7  # its outline encloses 4x4
    mask[10:25, 10:25] = 1
    mask[1:5, 20:25] = 1  # 3x4
    areas = [cv2.contourArea((polygon * (40, 30)).astype(np.float32)) for polygon in polygons_of_mask(mask)]
    assert areas == pytest.approx([14 * 14, 16])
    assert len(polygons_of_mask(mask, min_area_px=12)) == 3
    assert len(polygons_of_mask(mask, min_area_px=12.1)) == 2
    line = np.zeros((9, 9), np.uint8)
    line[4, 1:8] = 1
    assert polygons_of_mask(line, min_area_px=0) == []


def test_an_outline_strays_no_further_than_the_tolerance() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:35, 5:35] = 1
    mask[20, 35] = 1  # a bump of one pixel
    assert len(polygons_of_mask(mask)[0]) == 4
    assert len(polygons_of_mask(mask, tolerance_px=0.5)[0]) > 4


def _frame(cutout: Cutout) -> tuple[int, int, int, int]:
    height, width = cutout.mask.shape
    assert cutout.image_rgb.shape[:2] == (height, width)
    return cutout.left_px, cutout.top_px, cutout.left_px + width, cutout.top_px + height


_PHOTO = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("outline", "margin", "frame"),
    [
        ([(10, 5), (16, 5), (16, 15), (10, 15)], 0.0, (10, 5, 16, 15)),
        ([(10, 5), (16, 5), (16, 15), (10, 15)], 0.1, (9, 4, 17, 16)),
        ([(10, 5), (16, 5), (16, 15), (10, 15)], 0.11, (8, 3, 18, 17)),
        ([(10.25, 5.25), (16.75, 5.25), (16.75, 7.75)], 0.0, (10, 5, 17, 8)),
        ([(5, 8), (25, 8), (25, 10), (5, 10)], 0.2, (1, 4, 29, 14)),
        ([(2, 3), (28, 3), (28, 18)], 0.1, (0, 0, 30, 20)),
        ([(-9, -8), (-5, -8), (-5, -2)], 0.0, (0, 0, 1, 1)),
        ([(35, 25), (38, 25), (38, 28)], 0.0, (29, 19, 30, 20)),
    ],
)
def test_the_frame(version: int, outline: list[tuple[float, float]], margin: float, frame: tuple[int, ...]) -> None:
    cutout = cut_out(_PHOTO, _person(outline, height=20, width=30), margin_rel=margin, version=version)
    assert _frame(cutout) == frame
    x0, y0, x1, y1 = frame
    assert np.array_equal(cutout.image_rgb, _PHOTO[y0:y1, x0:x1])


def test_the_frame_is_counted_in_units() -> None:
    # A tenth of 9.998 pixels is rounded to 256 units, a whole pixel.
    outline = [(10.0, 5.0), (16.0, 5.0), (16.0, 14.998)]
    assert _frame(cut_out(_PHOTO, _person(outline, height=20, width=30), margin_rel=0.1, version=2)) == (9, 4, 17, 16)
    # A hundredth of a unit beyond a pixel's edge is nothing.
    outline = [(10 - 1e-5, 5 - 1e-5), (16 + 1e-5, 5.0), (16.0, 15 + 1e-5)]
    assert _frame(cut_out(_PHOTO, _person(outline, height=20, width=30), margin_rel=0, version=2)) == (10, 5, 16, 15)
    assert _frame(cut_out(_PHOTO, _person(outline, height=20, width=30), margin_rel=0, version=1)) == (9, 4, 17, 16)
    # Half a unit of margin counts as one.
    outline = [(10, 5), (10.5, 5), (10.5, 5.25)]
    assert _frame(cut_out(_PHOTO, _person(outline, height=20, width=30), margin_rel=1 / 256, version=2)) == (
        9,
        4,
        11,
        6,
    )
    assert _frame(cut_out(_PHOTO, _person(outline, height=20, width=30), margin_rel=0.9 / 256, version=2)) == (
        10, 5, 11, 6,
    )  # fmt: skip


def test_the_margin_where_nobody_says() -> None:
    outline = [(5.0, 2.0), (25.0, 2.0), (25.0, 10.0)]
    assert _frame(cut_out(_PHOTO, _person(outline, height=20, width=30))) == (4, 1, 26, 11)


def test_the_mask_of_both_versions() -> None:
    outline = [(2.0, 1.0), (6.0, 1.0), (2.0, 5.0)]
    person = _person(outline, height=20, width=30)
    new, old = (cut_out(_PHOTO, person, margin_rel=0.25, version=version).mask for version in (2, 1))
    assert _rows(new) == ["......", ".####.", ".###..", ".##...", ".#....", "......"]
    # fillPoly also draws what the outline touches.
    assert ((old > 0) | (new == 0)).all()
    assert _rows(old) == _rows(draw_polygons([np.array(outline) - (1, 0)], *old.shape))
    assert int((old > 0).sum()) > int((new > 0).sum())


def test_a_drawn_polygon_in_rows() -> None:
    assert _rows(draw_polygons([np.array([(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5)])], 5, 7)) == [
        ".......", ".####..", ".####..", ".####..", ".......",
    ]  # fmt: skip
    rel = np.array([(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5)]) / (7, 5)
    assert _rows(mask_of_polygons([rel], 5, 7)) == [".......", ".####..", ".####..", ".####..", "......."]
    line = np.array([(0.0, 0.0), (1.0, 1.0)])
    assert mask_of_polygons([line], 5, 4).max() == 0


@pytest.mark.parametrize("version", [1, 2])
def test_a_person_without_an_outline_is_the_box(version: int) -> None:
    two_points = (np.array([(0.1, 0.1), (0.9, 0.9)]),)
    for polygons in ((), two_points):
        person = Person("", 1.0, (4.0, 6.0, 9.0, 12.0), polygons)
        cutout = cut_out(_PHOTO, person, margin_rel=0.2, version=version)
        assert _frame(cutout) == (2, 4, 11, 14)
        expected = np.zeros((10, 9), np.uint8)
        expected[2:8, 2:7] = 255
        assert version == 1 or np.array_equal(cutout.mask, expected)
        assert (cutout.mask >= expected).all()


def test_areas_are_averaged_with_the_covered_share() -> None:
    picture = np.array([[0, 30, 60], [90, 120, 240]], np.uint8)
    cutout = Cutout(np.repeat(picture[..., None], 3, axis=2), picture)
    for version in (1, 2):
        small = resize_cutout(cutout, 1, 2, version=version)
        # Columns of one and a half pixels: (0 + 15 + 90 + 60) / 3, (15 + 60 + 60 + 240) / 3.
        assert small.mask.tolist() == [[55, 125]]
        assert small.image_rgb.tolist() == [[[55] * 3, [125] * 3]]
    assert resize_cutout(cutout, 2, 3).mask.tolist() == picture.tolist()


def test_a_larger_picture_is_interpolated_between_centres() -> None:
    picture = np.array([[10, 20], [40, 50]], np.uint8)
    cutout = Cutout(np.repeat(picture[..., None], 3, axis=2), picture)
    large = resize_cutout(cutout, 2, 4, version=2)
    # At -0.25 (the edge), 0.25, 0.75, 1.25: halves go up.
    assert large.mask.tolist() == [[10, 13, 18, 20], [40, 43, 48, 50]]
    assert large.image_rgb[..., 1].tolist() == large.mask.tolist()
    # One axis larger, the other smaller: interpolated too.
    assert resize_cutout(cutout, 1, 4, version=2).mask.tolist() == [[25, 28, 33, 35]]
    white = Cutout(np.full((2, 2, 3), 255, np.uint8), np.full((2, 2), 255, np.uint8))
    assert resize_cutout(white, 7, 7, version=2).mask.min() == 255


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_resampling_is_the_exact_average_but_for_halves(h: int, w: int, ih: int, iw: int, seed: int) -> None:
    if (ih <= h) != (iw <= w):
        return
    picture = np.random.default_rng(seed).integers(0, 256, (h, w), np.uint8)
    resized = resize_cutout(Cutout(np.dstack([picture] * 3), picture), ih, iw, version=2).mask

    def weights(source: int, inner: int) -> NDArray[np.float64]:
        step, i, s = source / inner, np.arange(inner)[:, None], np.arange(source)[None]
        if ih <= h and iw <= w:
            return np.asarray(np.clip(np.minimum((i + 1) * step, s + 1) - np.maximum(i * step, s), 0, None) / step)
        return np.asarray(np.clip(1 - np.abs(np.clip((i + 0.5) * step - 0.5, 0, source - 1) - s), 0, None))

    exact = weights(h, ih) @ picture @ weights(w, iw).T
    assert np.abs(resized - exact).max() <= 0.5 + 1e-3


def test_blending_in_numbers() -> None:
    image = np.array([[[10, 200, 255], [10, 200, 255], [10, 200, 255]]], np.uint8)
    mask = np.array([[0, 100, 255]], np.uint8)
    blended = on_flat_background(Cutout(image, mask), (250, 0, 128))
    # (10 * 100 + 250 * 155) / 255 = 155.88, 200 * 100 / 255 = 78.43, (255 * 100 + 128 * 155) / 255 = 177.8
    assert blended.tolist() == [[[250, 0, 128], [156, 78, 178], [10, 200, 255]]]


@pytest.mark.parametrize(
    ("source", "frame", "inner"),
    [
        ((100, 50), (64, 48), (64, 32)),
        ((50, 100), (64, 48), (24, 48)),
        ((64, 48), (64, 48), (64, 48)),
        ((1, 1000), (64, 48), (1, 48)),
        ((1000, 1), (64, 48), (64, 1)),
        ((4, 3), (64, 48), (64, 48)),
        ((100, 5), (10, 48), (10, 1)),
        ((128, 5), (64, 48), (64, 3)),
        ((128, 7), (64, 48), (64, 4)),
        ((5, 96), (64, 48), (3, 48)),
        ((200, 3), (100, 48), (100, 2)),
        ((50, 100), (24, 96), (24, 48)),
        ((100, 50), (96, 24), (48, 24)),
    ],
)
def test_the_size_within_the_letterbox(source: tuple[int, int], frame: tuple[int, int], inner: tuple[int, int]) -> None:
    assert inner_size(*source, *frame) == inner == inner_size(*source, *frame, version=2)
    halves_to_even = {(128, 5): (64, 2), (5, 96): (2, 48)}
    assert inner_size(*source, *frame, version=1) == halves_to_even.get(source, inner)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 2000), st.integers(1, 2000))
def test_the_size_is_the_exact_ratio_rounded(h: int, w: int, frame_h: int, frame_w: int) -> None:
    scale = min(Fraction(frame_h, h), Fraction(frame_w, w))
    expected = tuple(max(int(side * scale + Fraction(1, 2)), 1) for side in (h, w))
    assert inner_size(h, w, frame_h, frame_w) == expected


def test_an_odd_pixel_of_border_is_at_the_right_and_at_the_bottom() -> None:
    inner = np.full((2, 1, 3), 9, np.uint8)
    framed = in_frame(inner, 5, 4, (1, 2, 3))
    assert framed.shape == (5, 4, 3)
    assert (framed[..., 0] == 9).tolist() == [
        [False] * 4, [False, True, False, False], [False, True, False, False], [False] * 4, [False] * 4,
    ]  # fmt: skip
    assert framed[0, 0].tolist() == framed[4, 3].tolist() == [1, 2, 3]


@pytest.mark.parametrize("is_kept", [False, True])
def test_the_whole_way_of_a_picture_that_fits(is_kept: bool) -> None:
    photo = np.full((4, 8, 3), (200, 100, 50), np.uint8)
    photo[:, 4:] = (10, 20, 30)
    person = _person([(2, 0), (4, 0), (4, 4), (2, 4)], height=4, width=8)
    preprocessing = Preprocessing(4, 5, fill_rgb=(1, 2, 3), margin_rel=0.0, is_background_kept=is_kept)
    made = preprocessing.cut(photo, person)
    assert made[:, 1:3].tolist() == [[[200, 100, 50]] * 2] * 4
    assert made[:, [0, 3, 4]].tolist() == [[[1, 2, 3]] * 3] * 4
    wide = Preprocessing(8, 8, fill_rgb=(1, 2, 3), margin_rel=0.5, is_background_kept=is_kept).cut(photo, person)
    assert wide[2, 7].tolist() == ([10, 20, 30] if is_kept else [1, 2, 3])


def test_what_the_preprocessing_says_of_itself() -> None:
    said = Preprocessing(64, 48, is_background_kept=True).to_dict()
    assert said == {
        "resize": "letterbox-2",
        "interpolation": "mean of the covered area when shrinking, linear between pixel centres when enlarging",
        "colour_order": "RGB",
        "layout": "NCHW",
        "scale": "1/255",
        "background": "kept",
        "height_px": 64,
        "width_px": 48,
        "mean_rgb": [0.485, 0.456, 0.406],
        "std_rgb": [0.229, 0.224, 0.225],
        "fill_rgb": [124, 116, 104],
        "margin_rel": 0.05,
        "is_background_kept": True,
        "version": 2,
    }
    older = Preprocessing(version=1).to_dict()
    assert (older["resize"], older["version"]) == ("letterbox", 1)
    assert older["interpolation"] == "area when shrinking, linear when enlarging"
    assert older["background"] == "fill_rgb, blended by the mask after resizing"
    assert (older["height_px"], older["width_px"]) == (256, 192)


def test_runs_from_before_there_were_versions_keep_the_first() -> None:
    said = Preprocessing(version=1).to_dict()
    del said["version"]
    assert Preprocessing.from_dict(said) == Preprocessing(version=1)
    for key in ("colour_order", "layout", "scale", "resize"):
        assert Preprocessing.from_dict({name: value for name, value in said.items() if name != key}).version == 1


@pytest.mark.parametrize(
    ("code", "key", "values"),
    [
        ("unknown_preprocessing_version", "version", (3, 0, True, 2.0, "2", None, [2])),
        ("unknown_preprocessing", "version", (1,)),  # whose rules are others than those that stand there
        ("unknown_preprocessing", "resize", ("letterbox",)),
        ("unknown_preprocessing", "layout", ("NHWC",)),
        ("unknown_preprocessing", "scale", ("1",)),
        ("unknown_preprocessing", "colour_order", ("BGR",)),
        ("invalid_preprocessing", "fill_rgb", ([1, 2],)),
        ("invalid_preprocessing", "mean_rgb", (3,)),
        ("invalid_preprocessing", "std_rgb", ([1, 2, "x"],)),
    ],
)
def test_a_version_or_rule_that_is_not_known_is_refused(code: str, key: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(PackageError) as caught:
            Preprocessing.from_dict({**Preprocessing().to_dict(), key: value})
        assert caught.value.code == f"package.{code}"


@pytest.mark.parametrize("key", ["height_px", "width_px", "mean_rgb", "std_rgb", "fill_rgb", "margin_rel"])
def test_a_number_that_is_missing_is_refused(key: str) -> None:
    said = {name: value for name, value in Preprocessing().to_dict().items() if name != key}
    with pytest.raises(PackageError) as caught:
        Preprocessing.from_dict(said)
    assert caught.value.code == "package.invalid_preprocessing"
    assert repr(key) in caught.value.what


def test_both_versions_go_the_whole_way() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    person = _person([(18.3, 9.1), (42.7, 18.9), (36.2, 81.4), (21.8, 72.3)], height=90, width=60)
    new, old = (Preprocessing(32, 24, version=version).cut(photo, person) for version in (2, 1))
    assert new.shape == old.shape == (32, 24, 3)
    assert not np.array_equal(new, old)
    # The first version's mask is larger by what the outline touches: half a pixel of the photo on each side.
    assert (new != (124, 116, 104)).any(axis=2).sum() <= (old != (124, 116, 104)).any(axis=2).sum()


@pytest.mark.parametrize("version", [1, 2])
def test_the_first_version_is_what_it_was(version: int) -> None:
    """Runs and packages of version 1 keep every bit: as OpenCV calculates it from its own mask."""
    photo = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    outline = [(10.3, 5.2), (30.9, 8.8), (22.4, 35.7)]
    made = Preprocessing(96, 80, version=version).cut(photo, _person(outline, height=40, width=50))
    margin = 0.05 * (35.7 - 5.2)
    x0, y0 = int(10.3 - margin), int(5.2 - margin)
    x1, y1 = int(np.ceil(30.9 + margin)), int(np.ceil(35.7 + margin))
    fixed = np.round((np.array(outline) - (x0, y0) - 0.5) * 16).astype(np.int32)
    mask = cv2.fillPoly(np.zeros((y1 - y0, x1 - x0), np.uint8), [fixed], (255,), cv2.LINE_8, 4)
    scale = min(96 / (y1 - y0), 80 / (x1 - x0))
    size = (round((x1 - x0) * scale), round((y1 - y0) * scale))
    person = cv2.resize(photo[y0:y1, x0:x1], size, interpolation=cv2.INTER_LINEAR).astype(int)
    share = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)[..., None].astype(int)
    inner = (2 * (person * share + np.array((124, 116, 104)) * (255 - share)) + 255) // 510
    expected = np.full((96, 80, 3), (124, 116, 104), np.uint8)
    top, left = (96 - size[1]) // 2, (80 - size[0]) // 2
    expected[top : top + size[1], left : left + size[0]] = inner
    assert np.array_equal(made, expected) is (version == 1)


def test_the_margin_and_the_version_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        cut_out(_PHOTO, Person("", 1.0, (4.0, 6.0, 9.0, 12.0), ()), 0.2)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("box", "area"),
    [
        ((0.25, 0.5, 0.75, 0.75), 0.125),
        ((2.0, 3.0, 7.0, 5.0), 10.0),
        ((7.0, 3.0, 2.0, 5.0), 0.0),
        ((2.0, 5.0, 7.0, 3.0), 0.0),
        ((7.0, 5.0, 2.0, 3.0), 0.0),
        ((2.0, 3.0, 2.0, 5.0), 0.0),
    ],
)
def test_the_area_of_a_box(box: tuple[float, float, float, float], area: float) -> None:
    assert Person("", 1.0, box, ()).box_area_px == area


def test_the_area_inside_outlines() -> None:
    triangle, line = np.array([(0.1, 0.1), (0.5, 0.1), (0.1, 0.3)]), np.array([(0.0, 0.0), (0.9, 0.9)])
    assert outline_area(Person("", 1.0, (0, 0, 0, 0), (triangle, line, triangle[::-1] + 0.3))) == pytest.approx(0.08)
    assert outline_area(Person("", 1.0, (0, 0, 9, 9), ())) == 0


def test_who_is_chosen_of_equals() -> None:
    def person(conf: float, box_px: float, outline: float) -> Person:
        points = np.array([(0, 0), (outline, 0), (outline, 1)])
        return Person("female", conf, (0.0, 0.0, box_px, box_px), (points,) if outline else ())

    first, second = person(0.5, 10, 0.2), person(0.5, 20, 0.2)
    assert choose_people([first, second])[0] is first
    assert choose_people([second, first])[0] is second
    surer = person(0.6, 5, 0.2)
    assert choose_people([first, surer, second])[0] is surer
    larger = person(0.1, 1, 0.3)
    assert choose_people([surer, larger])[0] is larger
    # Where one has no outline, boxes decide, also over a larger outline and more confidence.
    assert choose_people([larger, person(0.01, 2, 0)])[0].box_xyxy_px == (0, 0, 2, 2)
    assert choose_people([surer], "single") == (surer,)
    assert choose_people([surer], "single", subject="male") == ()
    assert choose_people([], "all") == ()
    with pytest.raises(UsageError) as caught:
        choose_people([], "nobody")
    assert caught.value.code == "usage.unknown_option_value"
    assert "largest, single, all" in (caught.value.hint or "")
