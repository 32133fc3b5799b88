"""What a signature holds, pixel by pixel, on pictures that are small or simple enough to say it by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cls.dataset.split import signatures as module
from cls.dataset.split.signatures import PERSON, PHOTO, SIDE_PX, min_longer_side_px, person_signature, unpack_signatures
from cls.people.photos import Person
from cls.people.polygons import draw_polygons

Image = NDArray[np.uint8]


def in_grey(grey: Image) -> Image:
    return np.repeat(grey[..., None], 3, axis=2)


def lively(height_px: int, width_px: int, low: int = 0, high: int = 256) -> Image:
    """Soft spots without borders of one grey value."""
    cells = np.random.default_rng(1).integers(low, high, (height_px // 8 + 2, width_px // 8 + 2), np.uint8)
    return np.asarray(cv2.resize(cells, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.uint8)


def person_of(corners_px: list[tuple[int, int]], image: Image) -> Person:
    """Somebody with an outline in pixels, (x, y)."""
    return Person("person", 0.9, (0, 0, 1, 1), (np.array(corners_px, float) / image.shape[1::-1],))


def box(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def views_of(grey: Image, person: Person) -> tuple[Image, Image]:
    found = person_signature(in_grey(grey), person)
    assert found is not None
    return unpack_signatures(found)


def test_a_pixel_is_inside_where_the_outline_fills_half_of_it() -> None:
    """Of 20x20 pixels of the photo in one of the view: 200 are enough, 199 are not."""
    grey = lively(640, 640)
    # The slanted edge cuts pixels of the view in all proportions.
    corners = [(101, 101), (509, 101), (533, 520), (101, 520)]
    person = person_of(corners, grey)
    mask = draw_polygons([np.array(corners, float)], 640, 640)
    counts = (mask > 127).reshape(32, 20, 32, 20).sum(axis=(1, 3))
    assert {199, 200} <= set(counts.ravel().tolist())
    grey_views, inside = views_of(grey, person)
    np.testing.assert_array_equal(inside[PHOTO] > 0, counts >= 200)
    expected = grey.reshape(32, 20, 32, 20).mean(axis=(1, 3))
    np.testing.assert_allclose(grey_views[PHOTO], expected, atol=0.51)


@pytest.mark.parametrize(("brighter_rows", "spread", "is_signed"), [(23, 3.79, False), (32, 4.2, True)])
def test_a_spread_of_four_levels_is_structure(brighter_rows: int, spread: float, is_signed: bool) -> None:
    """Of the person alone, however lively the photo is: 100 rows of one grey value, some of them 9 levels brighter."""
    grey = lively(200, 200, 130)
    grey[40:160, 40:160] = 20
    grey[40 : 50 + brighter_rows, 40:160] = 29
    share = brighter_rows / 100
    assert 9 * np.sqrt(share * (1 - share)) == pytest.approx(spread, abs=0.01)
    assert (person_signature(in_grey(grey), person_of(box(50, 50, 149, 149), grey)) is not None) is is_signed


def test_dark_people_have_a_signature_like_bright_ones() -> None:
    grey = lively(200, 200, 0, 100)
    assert person_signature(in_grey(grey), person_of(box(50, 50, 150, 150), grey)) is not None


@pytest.mark.parametrize(("side", "is_signed"), [(4, True), (3, False)])
def test_sixteen_pixels_are_enough_of_a_person(side: int, is_signed: bool) -> None:
    grey = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (20, 20))
    corners = [(10.0, 10.0), (9.6 + side, 10.0), (9.6 + side, 9.6 + side), (10.0, 9.6 + side)]
    mask = draw_polygons([np.array(corners)], 40, 40)
    assert cv2.countNonZero(mask) == side * side
    grey[:, 12:] = 90
    person = Person("person", 0.9, (0, 0, 1, 1), (np.array(corners) / 40,))
    assert (person_signature(in_grey(grey), person) is not None) is is_signed


def test_outlines_of_two_points_are_passed_over() -> None:
    grey = lively(120, 120)
    person = person_of(box(30, 30, 90, 90), grey)
    line = Person("person", 0.9, (0, 0, 1, 1), (np.array([(0.1, 0.1), (0.9, 0.9)]), *person.polygons_xy_rel))
    np.testing.assert_array_equal(person_signature(in_grey(grey), line), person_signature(in_grey(grey), person))
    triangle = person_of([(30, 30), (90, 30), (60, 100)], grey)
    assert views_of(grey, triangle)[1][PHOTO].sum() / 255 == pytest.approx(60 * 70 / 2 / (120 * 120) * 1024, rel=0.1)


def test_the_frame_of_a_person_off_the_middle() -> None:
    """Across it is centred on the outline's mean, which a leg that stands out moves; columns say where they are."""
    grey = np.tile(np.arange(240, dtype=np.uint8), (200, 1))
    corners = [(60, 50), (140, 50), (140, 130), (60, 130)]
    views, inside = views_of(grey, person_of(corners, grey))
    mask = draw_polygons([np.array(corners, float)], 200, 240) > 127
    side = round(1.2 * np.sqrt(mask.sum()))
    left = round(float(np.nonzero(mask)[1].mean()) + 0.5 - side / 2)
    expected = left + side / 32 * (np.arange(32) + 0.5) - 0.5
    np.testing.assert_allclose(views[PERSON][16], expected, atol=0.6)
    columns = np.flatnonzero((inside[PERSON] > 0).any(axis=0))
    assert (columns[0], columns[-1]) == (
        np.flatnonzero(expected >= 60)[0],
        np.flatnonzero(expected <= 139.5)[-1],
    )


def test_a_border_has_the_value_of_its_outermost_line() -> None:
    photo = np.tile(np.linspace(0, 240, 100).astype(np.uint8), (60, 1))
    one_line = np.vstack([np.full((1, 100), 150, np.uint8), photo])
    assert module._border_px(one_line) == 1
    lines = np.vstack([np.full((1, 100), 150, np.uint8), np.full((4, 100), 200, np.uint8), photo])
    assert module._border_px(lines) == 1
    assert module._border_px(photo) == 0


@pytest.mark.parametrize("step", [-1, 1])
def test_the_value_of_a_border_is_the_middle_of_its_outermost_line(step: int) -> None:
    """Half of it 100 and half 104: of 102, so that lines as far from that as a border may be are part of it."""
    spread = module._BORDER_SPREAD
    photo = np.tile(np.linspace(0, 240, 100).astype(np.uint8), (60, 1))
    edge = np.repeat(np.array([[100, 104]], np.uint8), 50, axis=1)
    for level, expected in ((102 + step * spread, 4), (102 + step * (spread + 1), 1)):
        assert module._border_px(np.vstack([edge, np.full((3, 100), level, np.uint8), photo])) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.6, 12), (0.59, 0)])
def test_sixty_percent_of_a_line_make_it_a_part_of_the_border(share: float, expected: int) -> None:
    photo = np.tile(np.linspace(0, 240, 100).astype(np.uint8), (60, 1))
    border = np.full((12, 100), 120, np.uint8)
    border[6:, round(100 * share) :] = 0
    assert module._border_px(np.vstack([border, photo])) == expected


@pytest.mark.parametrize(("behind", "expected"), [(40, 7), (41, 0)])
def test_forty_percent_of_a_line_behind_the_border_may_have_its_value(behind: int, expected: int) -> None:
    lines = np.full((40, 100), 10, np.uint8)
    lines[:, :behind] = 200
    assert module._border_px(np.vstack([np.full((7, 100), 200, np.uint8), lines])) == expected


@pytest.mark.parametrize(("text_lines", "expected"), [(10, 30), (11, 10)])
def test_a_tenth_of_all_lines_may_be_text(text_lines: int, expected: int) -> None:
    """Of 100 lines; after that many others the border is over, whatever follows."""
    lines = np.tile(np.linspace(0, 90, 100).astype(np.uint8), (100, 1))
    lines[:30] = 200
    lines[10 : 10 + text_lines] = 0
    assert module._border_px(lines) == expected


def test_borders_of_a_quarter_are_left() -> None:
    """What is left is a quarter of the height and of the width at least."""
    for rows, columns, is_cut in ((25, 100, True), (24, 100, False), (100, 20, True), (100, 19, False)):
        flat = np.full((100, 80), 9, np.uint8)
        columns = min(columns, 80)
        flat[:rows, :columns] = lively(rows, columns, 100)
        expected = (slice(0, rows), slice(0, columns)) if is_cut else (slice(None), slice(None))
        assert module._content(flat) == expected


@pytest.mark.parametrize(("above_px", "is_cut"), [(30, True), (31, False)])
def test_borders_that_hold_three_tenths_of_the_outline_are_cut(above_px: int, is_cut: bool) -> None:
    """The outline has 20 rows in the border, as many below it, and 70 columns there."""
    grey = lively(240, 200, 60)
    grey[:40] = 5
    parts = [np.array(box(20, 20, 19 + above_px, 39), float), np.array(box(20, 40, 89, 59), float)]
    areas = [cv2.countNonZero(draw_polygons([part], 240, 200)) for part in parts]
    assert areas == [20 * above_px, 20 * 70]
    person = Person("person", 0.9, (0, 0, 1, 1), tuple(part / (200, 240) for part in parts))
    whole = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    cut = cv2.resize(grey[40:], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    views, _ = views_of(grey, person)
    np.testing.assert_array_equal(views[PHOTO], cut if is_cut else whole)


def test_pictures_smaller_than_the_view_are_enlarged() -> None:
    grey = lively(24, 60)
    views, _ = views_of(grey, person_of(box(10, 2, 50, 22), grey))
    expected = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(views[PHOTO], expected)


def test_how_large_a_photo_has_to_be() -> None:
    """So that the frame has one and a half pixels for each of the view's; 128 at least and 8192 at most."""
    for side, expected in (
        (0.5, 128),
        (0.1, 400),
        (0.2, 200),
        (0.3125, 128),
        (0.31, 129),
        (0.0049, 8163),
        (0.0048, 8192),
    ):
        corners = np.array([(0.1, 0.1), (0.1 + side, 0.1), (0.1 + side, 0.1 + side), (0.1, 0.1 + side)])
        assert min_longer_side_px(Person("person", 0.9, (0, 0, 1, 1), (corners,))) == pytest.approx(expected, abs=1)


def test_beyond_the_photo_there_is_its_edge() -> None:
    """A person who fills the left of a photo: the frame sticks out at the left and above."""
    grey = lively(100, 100, 100)
    views, inside = views_of(grey, person_of(box(0, 0, 60, 100), grey))
    assert views[PERSON].min() >= 100
    middle = views[PERSON][16]
    assert abs(int(middle[0]) - int(middle[4])) <= 1
    assert not inside[PERSON][:, :5].any()


def test_two_percent_of_the_outline_are_no_head() -> None:
    """Of 99 equal rows it is the second that the frame hangs on."""
    grey = np.tile(np.arange(240, dtype=np.uint8)[:, None], (1, 200))
    corners = box(60, 60, 158, 158)
    mask = draw_polygons([np.array(corners, float)], 240, 200)
    assert (np.count_nonzero(mask.any(axis=1)), int(np.flatnonzero(mask.any(axis=1))[0])) == (99, 60)
    views, _ = views_of(grey, person_of(corners, grey))
    expected = round(61 - 0.08 * 99) + round(1.2 * 99) / 32 * (np.arange(32) + 0.5) - 0.5
    np.testing.assert_allclose(views[PERSON][:, 16], expected, atol=0.6)


def test_of_borders_within_borders_two_are_cut() -> None:
    framed = lively(100, 80, 60)
    for value, width in ((120, 5), (10, 6), (250, 7)):
        framed = np.pad(framed, width, constant_values=value)
    assert module._content(framed) == (slice(13, -13 + len(framed)), slice(13, framed.shape[1] - 13))


def test_pictures_as_narrow_as_the_view_are_averaged() -> None:
    grey = lively(32, 96)
    views, _ = views_of(grey, person_of(box(10, 2, 80, 30), grey))
    np.testing.assert_allclose(views[PHOTO], grey.reshape(32, 32, 3).mean(axis=2), atol=0.51)


def test_what_a_frame_lacks_below_and_beside_a_photo_is_its_last_line() -> None:
    """The view of the upper body is the one of a photo that goes on with its outermost rows or columns."""
    grey = lively(120, 200)
    low, right = box(60, 70, 120, 118), box(140, 10, 198, 80)
    for corners, more in ((low, ((0, 80), (0, 0))), (right, ((0, 0), (0, 80)))):
        continued = np.pad(grey, more, mode="edge")
        views, inside = views_of(grey, person_of(corners, grey))
        expected, expected_inside = views_of(continued, person_of(corners, continued))
        np.testing.assert_array_equal(views[PERSON], expected[PERSON])
        np.testing.assert_array_equal(inside[PERSON], expected_inside[PERSON])
        assert not inside[PERSON].all()
