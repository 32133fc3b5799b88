"""People in copies of one photo are found again; others are not joined with them, whatever they stand in front of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cls.dataset.split import near_duplicates
from cls.dataset.split import signatures as signature_module
from cls.dataset.split.near_duplicates import CandidatePair, candidates, correlation, near_pairs
from cls.dataset.split.signatures import (
    PERSON,
    PHOTO,
    SIDE_PX,
    VIEW_BYTES,
    min_longer_side_px,
    person_signature,
    unpack_signatures,
)
from cls.people.photos import Person, decode_photo
from cls.people.polygons import draw_polygons

Image = NDArray[np.uint8]
# Scale and shift, across and down: where a pixel of the photo is in the copy.
Place = tuple[float, float, float, float]


def textured(rng: np.random.Generator, height_px: int, width_px: int, cell_px: int, low: int = 0) -> Image:
    """Soft spots of random colours."""
    cells = rng.integers(low, 256, (height_px // cell_px + 2, width_px // cell_px + 2, 3), np.uint8)
    return np.asarray(cv2.resize(cells, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.uint8)


def someone(polygon: Sequence[tuple[float, float]]) -> Person:
    corners = np.array(polygon)
    left, top, right, bottom = *corners.min(axis=0), *corners.max(axis=0)
    return Person("person", 0.9, (left, top, right, bottom), (corners,))


# A head, shoulders, arms and legs.
FIGURE = someone(
    [(0.45, 0.12), (0.55, 0.12), (0.56, 0.25), (0.68, 0.3), (0.68, 0.58), (0.6, 0.6), (0.58, 0.97), (0.42, 0.97),
     (0.4, 0.6), (0.32, 0.58), (0.32, 0.3), (0.44, 0.25)]
)  # fmt: skip


def photo_of(clothes: int, backdrop: Image, person: Person = FIGURE) -> Image:
    """A person in clothes of one's own before a backdrop."""
    height_px, width_px = backdrop.shape[:2]
    mask = draw_polygons([one * (width_px, height_px) for one in person.polygons_xy_rel], height_px, width_px)
    pixels = textured(np.random.default_rng(clothes), height_px, width_px, 18)
    return np.where(mask[..., None] > 127, pixels, backdrop)


@pytest.fixture(scope="module")
def photos() -> list[Image]:
    """Twelve people before backdrops of their own, 480x360."""
    return [photo_of(n, textured(np.random.default_rng(100 + n), 480, 360, 40)) for n in range(12)]


def saved(image_rgb: Image, quality: int = 85) -> Image:
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return decode_photo(content.tobytes())


def mirrored(image: Image) -> tuple[Image, Place]:
    return np.ascontiguousarray(image[:, ::-1]), (-1, image.shape[1], 1, 0)


def half(image: Image) -> tuple[Image, Place]:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8), (0.5, 0, 0.5, 0)


def padded(image: Image) -> tuple[Image, Place]:
    square = np.zeros((480, 480, 3), np.uint8)
    square[:, 60:420] = image
    return square, (1, 60, 1, 0)


def bar(image: Image) -> Image:
    bar_px = np.full((58, image.shape[1], 3), 255, np.uint8)
    cv2.putText(bar_px, "in the park, 1978", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    return bar_px


def captioned_above(image: Image) -> tuple[Image, Place]:
    return np.vstack([bar(image), image]), (1, 0, 1, 58)


def captioned_below(image: Image) -> tuple[Image, Place]:
    return np.vstack([image, bar(image)]), (1, 0, 1, 0)


def caption_over(image: Image) -> tuple[Image, Place]:
    image = image.copy()
    image[-38:] = bar(image)[:38]
    return image, (1, 0, 1, 0)


def cropped(image: Image) -> tuple[Image, Place]:
    return np.ascontiguousarray(image[24:-24, 18:-18]), (1, -18, 1, -24)


def cropped_and_mirrored(image: Image) -> tuple[Image, Place]:
    return mirrored(cropped(image)[0])[0], (-1, 360 - 18, 1, -24)


COPIES: dict[str, Callable[[Image], tuple[Image, Place]]] = {
    "saved again": lambda image: (saved(image, 40), (1, 0, 1, 0)),
    "brighter": lambda image: (cv2.convertScaleAbs(image, alpha=1.1, beta=20).astype(np.uint8), (1, 0, 1, 0)),
    "half the size": half,
    "mirrored": mirrored,
    "padded": padded,
    "captioned above": captioned_above,
    "captioned below": captioned_below,
    "caption over the feet": caption_over,
    "cropped": cropped,
    "cropped and mirrored": cropped_and_mirrored,
}


def copied(image: Image, copy: str, person: Person = FIGURE) -> Image:
    """The signature of the person in a copy, whose outline is carried over."""
    changed, (scale_x, x, scale_y, y) = COPIES[copy](image)
    size, new = image.shape[1::-1], changed.shape[1::-1]
    outlines = tuple(np.clip((one * size * (scale_x, scale_y) + (x, y)) / new, 0, 1) for one in person.polygons_xy_rel)
    found = person_signature(saved(changed), Person("person", 0.9, (0, 0, 1, 1), outlines))
    assert found is not None
    return found


def signatures(images: Sequence[Image], person: Person = FIGURE) -> NDArray[np.uint8]:
    found = [person_signature(image, person) for image in images]
    assert all(one is not None for one in found)
    return np.array(found, np.uint8)


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_and_nobody_else(photos: list[Image], copy: str) -> None:
    some = np.stack([copied(image, copy) for image in photos[:6]])
    pairs = near_pairs(np.concatenate([signatures(photos), some]))
    assert pairs.tolist() == [[number, number + 12] for number in range(6)]


def test_an_outline_that_was_found_anew_differs_a_little(photos: list[Image]) -> None:
    """Wider by a tenth, feet and all: what another run of a segmentation model makes of a person."""
    (outline,) = FIGURE.polygons_xy_rel
    wider = someone(((outline - (0.5, 0.12)) * (1.15, 1.03) + (0.5, 0.11)).tolist())
    others = signatures([saved(mirrored(image)[0]) for image in photos], wider)
    pairs = near_pairs(np.concatenate([signatures(photos), others]))
    assert pairs.tolist() == [[number, number + 12] for number in range(12)]


@pytest.mark.parametrize("backdrop", ["flat", "photo"])
def test_people_before_one_backdrop_stay_apart(backdrop: str) -> None:
    behind = np.full((480, 360, 3), 210, np.uint8)
    if backdrop == "photo":
        behind = textured(np.random.default_rng(5), 480, 360, 30)
    assert not len(near_pairs(signatures([photo_of(n, behind) for n in range(16)])))


def test_people_who_look_alike_stay_apart_before_other_backdrops() -> None:
    behind = [textured(np.random.default_rng(200 + n), 480, 360, 30) for n in range(6)]
    assert not len(near_pairs(signatures([photo_of(3, one) for one in behind])))


def test_one_photo_is_found_where_another_person_of_it_was_chosen() -> None:
    """Two people of about one size: which one is the largest is a matter of pixels."""
    (outline,) = FIGURE.polygons_xy_rel
    left, right = (someone((outline * (0.5, 1) + (x, 0)).tolist()) for x in (0.0, 0.5))
    photo = photo_of(1, photo_of(2, textured(np.random.default_rng(7), 480, 720, 40), left), right)
    both = np.concatenate([signatures([photo], left), signatures([saved(photo, 50)], right)])
    assert near_pairs(both).tolist() == [[0, 1]]


def test_people_of_one_number_are_not_compared(photos: list[Image]) -> None:
    """Of those who belong together there are links enough, and no more: a tree."""
    rows = signatures([*photos[:2], photos[0], photos[1], photos[0]])
    assert linked(near_pairs(rows)) == (3, {(0, 2, 4), (1, 3)})
    assert linked(near_pairs(rows, np.array([0, 1, 0, 1, 2]))) in [(1, {(0, 4)}), (1, {(2, 4)})]
    assert linked(near_pairs(rows, np.array([0, 1, 0, 1, 0]))) == (0, set())
    assert len(near_pairs(rows, np.array([0, 1, 1, 0, 1]))) == 1, "then 0 and 1 belong together"


def linked(pairs: NDArray[np.int64]) -> tuple[int, set[tuple[int, ...]]]:
    """How many pairs there are, and who is connected by them."""
    together: dict[int, set[int]] = {}
    for left, right in pairs.tolist():
        assert left < right
        both = together.get(left, {left}) | together.get(right, {right})
        together.update(dict.fromkeys(both, both))
    return len(pairs), {tuple(sorted(both)) for both in together.values()}


def test_nobody_and_one_person_have_no_pairs(photos: list[Image]) -> None:
    assert near_pairs(np.empty((0, 2, VIEW_BYTES), np.uint8)).shape == (0, 2)
    assert near_pairs(signatures(photos[:1])).shape == (0, 2)
    assert near_pairs(signatures(photos[:1])).dtype == np.int64


def test_people_without_structure_have_no_signature() -> None:
    assert person_signature(np.full((80, 60, 3), 255, np.uint8), FIGURE) is None
    noise = np.random.default_rng(0).integers(120, 130, (200, 200, 3), np.uint8)
    assert person_signature(noise, FIGURE) is None
    lively = textured(np.random.default_rng(0), 200, 200, 10)
    assert person_signature(lively, FIGURE) is not None
    assert person_signature(lively, Person("person", 0.9, (0, 0, 100, 100), ())) is None
    assert person_signature(lively, someone([(0.5, 0.5), (0.51, 0.5), (0.51, 0.51)])) is None
    assert person_signature(lively, someone([(1.5, 0.5), (1.9, 0.5), (1.9, 0.9)])) is None


def test_the_frame_hangs_on_the_outline() -> None:
    """A square person of 100x100 pixels in a photo of 300x200: a frame of 120 pixels, 8 of them above."""
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 300, axis=1)
    image = np.repeat(ramp[..., None], 3, axis=2)
    person = someone([(100 / 300, 60 / 200), (200 / 300, 60 / 200), (200 / 300, 160 / 200), (100 / 300, 160 / 200)])
    found = person_signature(image, person)
    assert found is not None
    assert (found.shape, found.dtype) == ((2, VIEW_BYTES), np.uint8)
    grey, inside = unpack_signatures(found)
    assert (grey.shape, inside.dtype, sorted(np.unique(inside).tolist())) == ((2, SIDE_PX, SIDE_PX), np.uint8, [0, 255])
    # 2 percent of the outline, two rows, are skipped: the frame begins at row 54, with 121 pixels in 32.
    expected = 54 + 121 / 32 * (np.arange(SIDE_PX) + 0.5) - 0.5
    np.testing.assert_allclose(grey[PERSON][:, 16], expected, atol=0.6)
    rows, columns = (np.flatnonzero((inside[PERSON] > 0).any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 27, 3, 28)


def test_the_second_view_is_the_whole_photo(photos: list[Image]) -> None:
    (found,) = signatures(photos[:1])
    grey, inside = unpack_signatures(found)
    expected = cv2.resize(cv2.cvtColor(photos[0], cv2.COLOR_RGB2GRAY), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(grey[PHOTO], expected)
    rows, columns = (np.flatnonzero((inside[PHOTO] > 0).any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (4, 30, 10, 21)


def test_a_frame_beyond_the_photo_repeats_its_edge() -> None:
    image = textured(np.random.default_rng(0), 100, 100, 10)
    found = person_signature(image, someone([(0.0, 0.0), (0.6, 0.0), (0.6, 1.0), (0.0, 1.0)]))
    assert found is not None
    grey, inside = unpack_signatures(found)
    grey, inside = grey[PERSON].astype(int), inside[PERSON]
    # 93 pixels, 16 of them left of the photo, 5 above.
    assert (np.abs(np.diff(grey[:, :5], axis=1)) <= 1).all()
    assert not inside[:, :5].any()
    assert not inside[0].any()
    assert inside[3:, 8:20].all()


@pytest.mark.parametrize("gray", [0, 90, 255])
def test_borders_are_no_part_of_the_photo(photos: list[Image], gray: int) -> None:
    grey = cv2.cvtColor(photos[0], cv2.COLOR_RGB2GRAY)
    framed = cv2.copyMakeBorder(grey, 9, 20, 30, 4, cv2.BORDER_CONSTANT, value=(gray,))
    assert signature_module._content(np.asarray(framed, np.uint8)) == (slice(9, 489), slice(30, 390))
    twice = cv2.copyMakeBorder(framed, 5, 0, 0, 7, cv2.BORDER_CONSTANT, value=(255 - gray if gray != 90 else 0,))
    assert signature_module._content(np.asarray(twice, np.uint8)) == (slice(14, 494), slice(30, 390))


def test_a_bar_is_a_border_to_the_end_whatever_is_written_on_it(photos: list[Image]) -> None:
    above, below = (
        cv2.cvtColor(saved(make(photos[0])[0]), cv2.COLOR_RGB2GRAY) for make in (captioned_above, captioned_below)
    )
    rows, columns = signature_module._content(np.asarray(above, np.uint8))
    assert (rows.start, rows.stop, columns) == (pytest.approx(58, abs=2), 538, slice(0, 360))
    rows, columns = signature_module._content(np.asarray(below, np.uint8))
    assert (rows.start, rows.stop, columns) == (0, pytest.approx(480, abs=2), slice(0, 360))


def test_a_wall_behind_somebody_is_no_border() -> None:
    """A head is narrower than a line's share that makes a border; shoulders come little by little."""
    wall = np.full((400, 300), 200, np.uint8)
    cv2.ellipse(wall, (150, 400), (140, 330), 0, 0, 360, (40,), -1)
    wall[:, 290:] = 90
    assert signature_module._content(wall)[0] == slice(0, 400)


def test_a_border_begins_with_a_line_of_one_grey_value() -> None:
    """Levels that differ by six are one; 97 percent of the first line are enough, and three lines for the end."""
    photo = np.tile(np.arange(0, 240, dtype=np.uint8)[:100], (60, 1))
    border = signature_module._border_px
    assert border(np.vstack([np.full((7, 100), 150, np.uint8), photo])) == 7
    uneven = np.full((7, 100), 150, np.uint8)
    uneven[:, :40] = 156
    assert border(np.vstack([uneven, photo])) == 7
    uneven[:, :40] = 157
    assert border(np.vstack([uneven, photo])) == 0
    speckled = np.full((7, 100), 150, np.uint8)
    speckled[0, :3] = 0
    assert border(np.vstack([speckled, photo])) == 7
    speckled[0, 3] = 0
    assert border(np.vstack([speckled, photo])) == 0
    for lines, expected in ((2, 7), (3, 0)):
        blurred = np.full((lines, 100), 150, np.uint8)
        blurred[:, :50] = 0
        assert border(np.vstack([np.full((7, 100), 150, np.uint8), blurred, photo])) == expected


def test_what_an_outline_has_in_a_bar_is_no_part_of_the_person(photos: list[Image]) -> None:
    """A model takes the letters above a head for hair."""
    changed, (_, _, _, bar_px) = captioned_above(photos[0])
    scale = (360, len(changed))
    own = (FIGURE.polygons_xy_rel[0] * (360, 480) + (0, bar_px)) / scale
    letters = np.array([(60, 5), (300, 5), (300, 50), (60, 50)]) / scale
    with_letters = Person("person", 0.9, (0, 0, 1, 1), (own, letters))
    found = person_signature(saved(changed), with_letters)
    (expected,) = signatures(photos[:1])
    assert found is not None
    (grey, inside), (expected_grey, expected_inside) = (unpack_signatures(one) for one in (found, expected))
    assert np.abs(grey[PERSON].astype(int) - expected_grey[PERSON]).mean() < 6
    assert (inside[PERSON] != expected_inside[PERSON]).mean() < 0.03
    assert near_pairs(np.stack([expected, found])).tolist() == [[0, 1]]


def test_a_border_that_holds_much_of_the_outline_is_kept(photos: list[Image]) -> None:
    """Two equal squares, one in the bar: half of the outline would be gone."""
    changed, _ = captioned_above(photos[0])
    for widths, is_cut in (((58, 58), False), ((20, 58), True)):
        squares = [
            np.array([(x, y), (x + width, y), (x + width, y + 58), (x, y + 58)]) / (360, len(changed))
            for width, (x, y) in zip(widths, ((150, 0), (150, 200)), strict=True)
        ]
        found = person_signature(changed, Person("person", 0.9, (0, 0, 1, 1), tuple(squares)))
        assert found is not None
        grey, _ = unpack_signatures(found)
        expected = photos[0] if is_cut else changed
        expected = cv2.resize(cv2.cvtColor(expected, cv2.COLOR_RGB2GRAY), (SIDE_PX, SIDE_PX), interpolation=3)
        assert np.abs(grey[PHOTO].astype(int) - expected).max() <= 12


def test_what_is_nearly_all_border_is_a_photo() -> None:
    flat = np.full((80, 60), 7, np.uint8)
    assert signature_module._content(flat) == (slice(0, 80), slice(0, 60))
    strip = textured(np.random.default_rng(0), 19, 60, 4)[..., 0]
    flat[30:49] = strip
    assert signature_module._content(flat) == (slice(None), slice(None))
    flat[49] = strip[0]
    assert signature_module._content(flat) == (slice(30, 50), slice(0, 60))


def test_small_people_are_looked_at_in_a_large_photo() -> None:
    assert min_longer_side_px(FIGURE) == 128
    small = someone([(0.5, 0.5), (0.52, 0.5), (0.52, 0.6), (0.5, 0.6)])
    assert min_longer_side_px(small) == round(1.5 * 32 / (1.2 * np.sqrt(0.02 * 0.1)) - 0.5)
    assert min_longer_side_px(Person("person", 0.9, (0, 0, 9, 9), ())) == 8192


def views_of(images: Sequence[Image], view: int) -> tuple[Image, Image, NDArray[np.int64]]:
    return (*unpack_signatures(signatures(images)[:, view]), np.arange(len(images)))


def test_candidates_say_how_they_are_similar(photos: list[Image]) -> None:
    (found,) = candidates(*views_of([photos[0], mirrored(photos[0])[0]], PERSON), PERSON)
    assert (found.left, found.right, found.is_mirrored, found.frame, found.view) == (0, 1, True, 0, PERSON)
    assert found.similarity > 0.95
    (found,) = candidates(*views_of([photos[1], photos[0], photos[0]], PHOTO), PHOTO)
    assert found[1:] == (1, 2, False, 0, PHOTO)
    assert found.similarity == pytest.approx(1, abs=1e-5)


def test_no_more_candidates_than_the_most_similar(photos: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = [saved(photos[0], quality) for quality in (90, 20, 50, 5, 70, 10)]
    found = candidates(*views_of([photos[0], *noisy], PHOTO), PHOTO)
    mine = [one.right for one in found if one.left == 0]
    assert sorted(mine) == [1, 3, 5]
    monkeypatch.setattr(near_duplicates, "_BLOCK", 2)
    assert candidates(*views_of([photos[0], *noisy], PHOTO), PHOTO) == found


@pytest.mark.parametrize("frame", range(7))
def test_another_frame_is_seen_as_the_same(photos: list[Image], frame: int) -> None:
    """What is seen in each of the other frames is a candidate, and agrees once it is laid over."""
    grey, inside = unpack_signatures(signatures(photos[:1])[:, PERSON])
    warped = [near_duplicates._warped(one, frame) for one in (grey, inside)]
    pair = np.concatenate([grey, warped[0]]), np.concatenate([inside, (warped[1] > 127) * np.uint8(255)])
    (found,) = candidates(*pair, np.arange(2), PERSON)
    assert (found.frame, found.is_mirrored) == (frame, False)
    assert found.similarity > 0.99
    assert correlation(*pair, found) > 0.97


def test_other_frames_are_scaled_about_the_middle_of_the_top_and_shifted() -> None:
    """The top of the outline is 8 parts of 120 below the frame's."""
    warp = near_duplicates._frame_warp
    top = 32 * 8 / 120
    np.testing.assert_allclose(warp(0), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(warp(1), [[0.87, 0, 15.5 * 0.13], [0, 0.87, top * 0.13]], rtol=1e-5)
    np.testing.assert_allclose(warp(2), [[1.15, 0, -15.5 * 0.15], [0, 1.15, -top * 0.15]], rtol=1e-5)
    np.testing.assert_allclose(warp(3), [[1, 0, 0], [0, 1, -3.2]], rtol=1e-5)
    np.testing.assert_allclose(warp(6), [[1, 0, 0], [0, 1, 6.4]], rtol=1e-5)
    assert warp(0).dtype == np.float32


def test_low_frequencies_count_the_more_the_higher_they_are() -> None:
    """Two waves across, of three and four half periods, and one down of two; of norm 1 together."""
    place = (np.arange(SIDE_PX) + 0.5) * np.pi / SIDE_PX
    across, other, down = np.cos(3 * place), np.cos(4 * place), np.cos(2 * place)
    grey = np.asarray(np.round(128 + 40 * across[None] + 20 * other[None] + 30 * down[:, None]), np.uint8)[None]
    even, odd = near_duplicates._low_frequencies(grey, np.zeros_like(grey), PHOTO)
    assert (even.shape, odd.shape, even.dtype) == ((1, 50), (1, 50), np.float32)
    expected = np.zeros((10, 10))
    expected[0, 3], expected[0, 4], expected[2, 0] = 3 * 40, 4 * 20, 2 * 30
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(even[0], expected[:, 0::2].ravel(), atol=0.01)
    np.testing.assert_allclose(odd[0], expected[:, 1::2].ravel(), atol=0.01)


def test_low_frequencies_of_a_person_are_of_the_pixels_inside_alone(photos: list[Image]) -> None:
    grey, inside, _ = views_of(photos[:1], PERSON)
    elsewhere = np.where(inside > 127, grey, np.uint8(255) - grey)
    found, same = (near_duplicates._low_frequencies(one, inside, PERSON) for one in (grey, elsewhere))
    np.testing.assert_array_equal(found, same)
    brighter = np.asarray(grey // 2 + 100, np.uint8)
    np.testing.assert_allclose(near_duplicates._low_frequencies(brighter, inside, PERSON), found, atol=0.02)
    nobody = near_duplicates._low_frequencies(grey, np.zeros_like(inside), PERSON)
    assert not np.any(nobody), "nothing is like nothing"


def test_what_cannot_be_laid_over_each_other_does_not_agree(photos: list[Image]) -> None:
    grey, inside, _ = views_of(photos[:2], PERSON)
    one = CandidatePair(1.0, 0, 1, False, 0, PERSON)
    assert correlation(grey, inside, one) < near_duplicates.LEAST_CORRELATION[PERSON]
    assert correlation(grey, np.zeros_like(inside), one) == -1
    few = np.zeros_like(inside)
    few[:, 10:16, 10:16] = 255
    assert correlation(grey[[0, 0]], few, one) == -1
    assert correlation(grey[[0, 0]], inside[[0, 0]], one) == pytest.approx(1, abs=1e-3)


def test_surroundings_may_differ_in_brightness_and_by_a_part() -> None:
    rng = np.random.default_rng(1)
    first = textured(rng, 32, 32, 8)[..., 0] // 2
    is_person = np.zeros((32, 32), np.bool_)
    is_person[8:, 10:22] = True
    share = near_duplicates._same_share
    brighter = np.asarray(first * 1.5 + 20, np.uint8)
    assert share(first, brighter, is_person, ~is_person) == 1
    other = np.where(is_person, first, textured(rng, 32, 32, 8)[..., 0])
    assert share(first, other, is_person, ~is_person) < 0.4
    assert share(first, other, is_person, np.zeros_like(is_person)) == 1, "nothing is around"
    partly = first.copy()
    partly[:, 23:] = 255
    assert share(first, partly, is_person, ~is_person) == pytest.approx(1 - 288 / (1024 - 288), abs=0.02)
    # Before a flat wall six levels are the same, before a lively one sixteen, whatever they spread.
    for low, high, levels in ((100, 102, 6), (0, 256, 16)):
        wall = rng.integers(low, high, (32, 32)).astype(np.float64)
        noise = np.where(is_person, 0, rng.choice([levels - 2, levels + 3], (32, 32)) * rng.choice([-1, 1], (32, 32)))
        person = rng.integers(0, 256, (32, 32)).astype(np.float64)
        first, second = (np.where(is_person, person, wall + one) + 30 for one in (0, noise))
        found = share(first.astype(np.int16), second.astype(np.int16), is_person, ~is_person)  # type: ignore[arg-type]
        assert found == pytest.approx(float((np.abs(noise) < levels)[~is_person].mean()), abs=0.06)


def test_details_are_of_the_compared_pixels_alone() -> None:
    rng = np.random.default_rng(1)
    grey = textured(rng, 32, 32, 4)[..., 0]
    is_compared = np.zeros((32, 32), np.bool_)
    is_compared[5:25, 5:25] = True
    found = near_duplicates._details(grey, is_compared)
    assert (found.shape, found.dtype) == ((400,), np.float32)
    assert abs(float(found.mean())) < 1e-3
    changed = np.where(is_compared, grey, np.uint8(255))
    np.testing.assert_allclose(near_duplicates._details(changed, is_compared), found, atol=1e-3)
    np.testing.assert_allclose(
        near_duplicates._details(np.asarray(grey // 2 + 40, np.uint8), is_compared), found / 2, atol=1
    )
    assert np.abs(near_duplicates._details(np.full((32, 32), 9, np.uint8), is_compared)).max() < 1e-3


def test_who_agrees_in_low_frequencies_alone_is_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slope of light, with other waves of six pixels laid over it."""
    place = np.pi * (np.arange(SIDE_PX) + 0.5) / SIDE_PX
    light, waves = 128 + 60 * np.cos(place), 45 * np.cos(10 * place)
    grey = np.asarray(np.stack([light[:, None] + waves, np.tile((light + waves)[:, None], (1, SIDE_PX))]), np.uint8)
    inside, numbers = np.full_like(grey, 255), np.arange(2)
    for view in (PERSON, PHOTO):
        assert candidates(grey, inside, numbers, view) == []
        monkeypatch.setattr(near_duplicates, "LEAST_AGREEMENT", -1)
        assert [(one.left, one.right) for one in candidates(grey, inside, numbers, view)] == [(0, 1)]
        monkeypatch.undo()


def test_medium_frequencies_know_neither_brightness_nor_single_pixels(photos: list[Image]) -> None:
    grey, _, _ = views_of(photos[:3], PHOTO)
    found = near_duplicates._medium_frequencies(grey)
    assert (found.shape, found.dtype) == ((3, 16, 16), np.float32)

    def agreement(other: Image) -> NDArray[np.float32]:
        medium = near_duplicates._medium_frequencies(other)
        return near_duplicates._correlations(found, medium, np.ones_like(found))

    assert agreement(np.asarray(grey // 2 + 70, np.uint8)).min() > 0.99
    noise = np.random.default_rng(0).normal(0, 12, grey.shape)
    assert agreement(np.asarray(np.clip(grey + noise, 0, 255), np.uint8)).min() > 0.85
    slope = np.linspace(-60, 60, 32)
    assert agreement(np.asarray(np.clip(grey + slope, 0, 255), np.uint8)).min() > 0.8
    assert abs(agreement(grey[[1, 2, 0]])).max() < 0.6
    assert abs(agreement(np.full((3, 32, 32), 90, np.uint8))).max() < 0.01, "nothing is like nothing"
    np.testing.assert_allclose(near_duplicates._medium_frequencies(grey[:, :, ::-1]), found[:, :, ::-1], atol=1e-3)


def test_correlations_count_pixels_by_their_weight() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.normal(size=(2, 4, 16, 16)).astype(np.float32)
    weights = rng.integers(0, 3, (4, 16, 16)).astype(np.float32)
    found = near_duplicates._correlations(first, second, weights)
    repeats = [one.ravel().astype(np.int64) for one in weights]
    pixels = [[np.repeat(each[row].ravel(), repeats[row]) for each in (first, second)] for row in range(4)]
    np.testing.assert_allclose(found, [np.corrcoef(*both)[0, 1] for both in pixels], atol=1e-4)
    assert not near_duplicates._correlations(first, second, np.zeros_like(weights)).any()


def test_few_people_before_one_backdrop_are_candidates_as_their_outlines_count_too() -> None:
    behind = textured(np.random.default_rng(5), 480, 360, 30)
    grey, inside = unpack_signatures(signatures([photo_of(n, behind) for n in range(16)])[:, PHOTO])
    few, many = (len(candidates(grey, each, np.arange(16), PHOTO)) for each in (inside, np.full_like(inside, 255)))
    assert few < 12
    assert many == 13 * 3 + 2 + 1, "of the backdrop's agreement everyone has enough"


@pytest.mark.parametrize("copy", ["cropped and mirrored", "captioned below"])
def test_copies_are_found_among_more_than_are_compared_with_everyone(
    photos: list[Image], copy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "COMPARED_WITH_ALL", 10)
    monkeypatch.setattr(near_duplicates, "_SIZE", 2)
    monkeypatch.setattr(near_duplicates, "_VISITED", 3)
    some = np.stack([copied(image, copy) for image in photos[:6]])
    pairs = near_pairs(np.concatenate([signatures(photos), some]))
    assert pairs.tolist() == [[number, number + 12] for number in range(6)]
