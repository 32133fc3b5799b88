"""Candidates, correlations and pairs of near duplicates, compared with a slow implementation of the same rule."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, ndimage

from cls.dataset.split import near_duplicates
from cls.dataset.split.near_duplicates import CandidatePair, candidates, correlation, near_pairs
from cls.dataset.split.signatures import PERSON, PHOTO

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
SIDE = 32
LEAST = {PERSON: 0.5, PHOTO: 0.8}
# Scale and shift down, in frames, of the seven frames; of the photo's view there is the first alone.
FRAMES = ((1.0, 0.0), (0.87, 0.0), (1.15, 0.0), (1.0, -0.1), (1.0, 0.1), (1.0, -0.2), (1.0, 0.2))


def soft(rng: np.random.Generator, cells: int) -> Floats:
    """Soft spots from 0 to 255 in 32x32 pixels."""
    spots = rng.uniform(0, 255, (cells, cells)).astype(np.float32)
    return np.asarray(np.clip(cv2.resize(spots, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), 0, 255), np.float64)


def outline(top: int, left: int, right: int) -> Image:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top:30, left:right] = 255
    return mask


def in_frame(image: Image, frame: int) -> Image:
    """A picture in another frame, pixel by pixel."""
    scale, down = FRAMES[frame]
    top = SIDE * 0.08 / 1.2  # the top of the outline, about which frames are scaled
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    places = (scale * (rows - top) + top + down * SIDE, scale * (columns - 15.5) + 15.5)
    return np.asarray(
        np.round(ndimage.map_coordinates(image.astype(np.float64), places, order=1, mode="nearest")), np.uint8
    )


def lowest(grey: Image, inside: Image, view: int) -> Floats:
    """The 10x10 lowest frequencies, the higher the heavier, of norm 1."""
    is_counted = np.ones((SIDE, SIDE), bool) if view == PHOTO else inside >= 128
    pixels = grey.astype(np.float64)
    pixels = np.where(is_counted, pixels - pixels[is_counted].mean(), 0)
    found = fft.dctn(pixels, norm="ortho")[:10, :10]
    rows, columns = np.mgrid[:10, :10]
    found = found * np.sqrt(rows**2 + columns**2)
    return np.asarray(found / np.linalg.norm(found), np.float64)


def similarities(grey: Image, inside: Image, view: int) -> dict[tuple[int, bool], Floats]:
    """How similar each two are: by the frame of the first, and by whether the second is mirrored."""
    found = {}
    for is_mirrored in (False, True):
        step = -1 if is_mirrored else 1
        others = [lowest(one[:, ::step], mask[:, ::step], view).ravel() for one, mask in zip(grey, inside, strict=True)]
        for frame in range(7 if view == PERSON else 1):
            pairs = [(in_frame(one, frame), in_frame(mask, frame)) for one, mask in zip(grey, inside, strict=True)]
            found[frame, is_mirrored] = np.array([lowest(*pair, view).ravel() for pair in pairs]) @ np.array(others).T
    return found


def test_frames_in_which_another_outline_would_show_a_person() -> None:
    """Scaled about the middle of the outline's upper edge, and shifted down."""
    top = SIDE * 0.08 / 1.2
    for frame, (scale, down) in enumerate(FRAMES):
        expected = [[scale, 0, 15.5 * (1 - scale)], [0, scale, top * (1 - scale) + down * SIDE]]
        np.testing.assert_allclose(near_duplicates._frame_warp(frame), expected, atol=1e-5)
    assert len(near_duplicates._OTHER_FRAMES) == len(FRAMES)


@pytest.fixture(scope="module")
def crowd() -> tuple[Image, Image]:
    """Forty people between four others and themselves, some mirrored, some in another frame: similar to any degree."""
    rng = np.random.default_rng(3)
    others = [soft(rng, 7) for _ in range(4)]
    grey, inside = [], []
    for number in range(40):
        own = float(rng.uniform(0, 0.75))
        image = np.asarray(np.round((1 - own) * others[number % 4] + own * soft(rng, 7)), np.uint8)
        mask = outline(2 + int(rng.integers(0, 3)), 6 + int(rng.integers(0, 4)), 22 + int(rng.integers(0, 4)))
        frame = int(rng.integers(0, 7)) if number % 3 == 0 else 0
        step = -1 if number % 5 == 0 else 1
        grey.append(in_frame(image, frame)[:, ::step])
        inside.append(np.where(in_frame(mask, frame) > 127, 255, 0).astype(np.uint8)[:, ::step])
    return np.array(grey), np.array(inside)


def medium(grey: Image) -> Floats:
    """What a blur of 1.5 pixels has that one of 6 lacks, at half the size."""

    def blurred(sigma_px: float) -> Floats:
        images = (grey.astype(np.float64), np.ones(grey.shape))
        found, weights = (ndimage.gaussian_filter(each, sigma_px, mode="constant", radius=SIDE) for each in images)
        return np.asarray(found / weights, np.float64)

    return np.asarray((blurred(1.5) - blurred(6)).reshape(16, 2, 16, 2).mean(axis=(1, 3)), np.float64)


def agreement(first: tuple[Image, Image], second: tuple[Image, Image]) -> float:
    """The correlation of medium frequencies, everywhere or inside of either outline, whichever is lower."""
    pixels = medium(first[0]), medium(second[0])
    either = np.maximum(*(mask.reshape(16, 2, 16, 2).mean(axis=(1, 3)) for _, mask in (first, second)))
    found = []
    for weights in (np.ones((16, 16)), either):
        covariance = np.cov(np.stack([one.ravel() for one in pixels]), aweights=weights.ravel())
        found.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    return float(min(found))


@pytest.mark.parametrize("view", [PERSON, PHOTO])
def test_candidates_are_the_three_who_agree_most_of_the_similar(crowd: tuple[Image, Image], view: int) -> None:
    """As a slow implementation finds them; the two may differ by 0.01, as one of them warps in whole numbers."""
    grey, inside = crowd
    numbers = np.arange(len(grey))
    numbers[7] = numbers[3]  # these two belong together already, and so are not compared
    found = candidates(grey, inside, numbers, view)
    by_pair = {(one.left, one.right): one for one in found}
    assert len(by_pair) == len(found)
    assert {one.view for one in found} == {view}
    ways = similarities(grey, inside, view)
    kinds = set()

    def agreed(left: int, right: int, frame: int, is_mirrored: bool) -> float:
        step = -1 if is_mirrored else 1
        framed = in_frame(grey[left], frame), in_frame(inside[left], frame)
        return agreement(framed, (grey[right][:, ::step], inside[right][:, ::step]))

    for left in range(len(grey)):
        similar = {}
        for right in range(left + 1, len(grey)):
            if numbers[left] == numbers[right]:
                assert (left, right) not in by_pair
                continue
            best = max(ways, key=lambda way: ways[way][left, right])
            similar[right] = float(ways[best][left, right]), agreed(left, right, *best)
            one = by_pair.get((left, right))
            if one is None:
                continue
            assert one.similarity == pytest.approx(similar[right][0], abs=0.01)
            assert one.similarity >= LEAST[view]
            assert ways[one.frame, one.is_mirrored][left, right] > similar[right][0] - 0.01
            similar[right] = similar[right][0], agreed(left, right, one.frame, one.is_mirrored)
            assert similar[right][1] > 0.58
            kinds.add((one.frame, one.is_mirrored))
        kept = [similar[right][1] for right in similar if (left, right) in by_pair]
        assert len(kept) <= 3
        for right, (likeness, agrees) in similar.items():
            is_looked_at = sum(other > likeness - 0.01 for other, _ in similar.values()) <= 16
            if (left, right) not in by_pair and likeness > LEAST[view] + 0.01 and agrees > 0.62 and is_looked_at:
                assert len(kept) == 3, (left, right, likeness, agrees)
                assert agrees < min(kept) + 0.02
    assert len(kinds) >= (9 if view == PERSON else 2), "nearly every frame, and both ways round"


def test_of_frames_that_are_alike_the_first_counts() -> None:
    """Upright stripes are the same when they are shifted down."""
    stripes = np.repeat(soft(np.random.default_rng(0), 9)[:1], SIDE, axis=0).astype(np.uint8)
    grey, inside = np.array([stripes] * 2), np.full((2, SIDE, SIDE), 255, np.uint8)
    (found,) = candidates(grey, inside, np.arange(2), PERSON)
    assert (found.frame, found.is_mirrored) == (0, False)


@pytest.mark.parametrize("view", [PERSON, PHOTO])
def test_what_is_just_similar_enough_is_a_candidate(
    crowd: tuple[Image, Image], view: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey, inside = crowd
    everyone = np.arange(len(grey))
    found = candidates(grey, inside, everyone, view)
    least = min(found)
    limits = [2.0, 2.0]
    limits[view] = least.similarity
    monkeypatch.setattr(near_duplicates, "LEAST_SIMILARITY", tuple(limits))
    assert least in candidates(grey, inside, everyone, view)
    limits[view] = float(np.nextafter(np.float32(least.similarity), np.float32(2)))
    monkeypatch.setattr(near_duplicates, "LEAST_SIMILARITY", tuple(limits))
    assert candidates(grey, inside, everyone, view) == [one for one in found if one != least]


def two_like(grey: Image, inside: Image) -> NDArray[np.uint8]:
    """Signatures of two people with the same picture in both views."""
    rows = [np.concatenate([one.ravel(), np.packbits(mask > 127)]) for one, mask in zip(grey, inside, strict=True)]
    return np.stack([np.array(rows)] * 2, axis=1)


def noisy(share: float) -> tuple[Image, Image, NDArray[np.bool_]]:
    """Two people with the same low frequencies before the same backdrop, and with fine structures partly their own."""
    rng = np.random.default_rng(7)
    person = outline(6, 8, 24)
    soft_part, common, own = soft(rng, 5) / 3 + 80, rng.normal(0, 1, (SIDE, SIDE)), rng.normal(0, 1, (2, SIDE, SIDE))
    details = np.sqrt(share) * common + np.sqrt(1 - share) * own
    grey = np.where(person > 127, soft_part + 14 * details, soft_part).round().astype(np.uint8)
    return grey, np.array([person] * 2), person > 127


@pytest.mark.parametrize("view", [PERSON, PHOTO])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_the_correlation_is_of_what_blurred_pictures_lack(view: int, share: float) -> None:
    """Of pictures that lie over each other, within what the alignment shifts them."""
    grey, inside, is_person = noisy(share)
    weights = ndimage.gaussian_filter(is_person.astype(np.float64), 3, truncate=4)
    details = []
    for one in grey:
        blurred = ndimage.gaussian_filter(one * is_person.astype(np.float64), 3, truncate=4)
        details.append((one - blurred / np.maximum(weights, 1e-3))[is_person])
    expected = float(np.corrcoef(details)[0, 1])
    found = correlation(grey, inside, CandidatePair(1.0, 0, 1, False, 0, view))
    assert found == pytest.approx(expected, abs=0.03)
    mirrored = grey[1][:, ::-1], inside[1][:, ::-1]
    pair = np.array([grey[0], mirrored[0]]), np.array([inside[0], mirrored[1]])
    assert correlation(*pair, CandidatePair(1.0, 0, 1, True, 0, view)) == pytest.approx(found, abs=1e-4)
    assert correlation(*pair, CandidatePair(1.0, 0, 1, False, 0, view)) < 0.5


def test_what_correlates_just_enough_is_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the view that they are similar in: each has a limit of its own."""
    grey, inside, _ = noisy(0.9)
    rows = two_like(grey, inside)
    assert near_pairs(rows).tolist() == [[0, 1]]
    for view in (PERSON, PHOTO):
        (one,) = candidates(grey, inside, np.arange(2), view)
        enough = correlation(grey, inside, one)
        for limit, expected in ((enough, [[0, 1]]), (float(np.nextafter(enough, 2)), [])):
            limits = [2.0, 2.0]
            limits[view] = limit
            monkeypatch.setattr(near_duplicates, "LEAST_CORRELATION", tuple(limits))
            assert near_pairs(rows).tolist() == expected


@pytest.mark.parametrize(
    ("view", "share", "correlates", "is_pair"),
    [
        (PERSON, 0.74, 0.818, False), (PERSON, 0.82, 0.868, True),
        (PHOTO, 0.68, 0.779, False), (PHOTO, 0.74, 0.815, True),
    ],
)  # fmt: skip
def test_limits_of_the_correlation(view: int, share: float, correlates: float, is_pair: bool) -> None:
    """0.84 of the person's view, 0.8 of the photo's; in the other view the two have nothing in common."""
    grey, inside, _ = noisy(share)
    assert correlation(grey, inside, CandidatePair(1.0, 0, 1, False, 0, view)) == pytest.approx(correlates, abs=0.01)
    rows = two_like(grey, inside)
    rng = np.random.default_rng(1)
    rows[:, 1 - view] = two_like(np.array([soft(rng, 9), soft(rng, 9)]).astype(np.uint8), inside)[:, 1 - view]
    assert near_pairs(rows).tolist() == ([[0, 1]] if is_pair else [])


def squares(compared_px: int) -> tuple[Image, Image]:
    """One picture twice; `compared_px` pixels of it are the person."""
    grey = soft(np.random.default_rng(2), 9).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[12:17, 8 : 8 + compared_px // 5] = 255
    mask[17, 8 : 8 + compared_px % 5] = 255
    return np.array([grey] * 2), np.array([mask] * 2)


def test_forty_pixels_in_common_are_enough() -> None:
    one = CandidatePair(1.0, 0, 1, False, 0, PERSON)
    assert correlation(*squares(40), one) == pytest.approx(1, abs=1e-3)
    assert correlation(*squares(39), one) == -1


@pytest.mark.parametrize(("share", "is_same"), [(0.5, False), (0.6, True)])
def test_more_than_half_of_the_surroundings_has_to_be_the_same(share: float, is_same: bool) -> None:
    """55 percent of them: the rest may be anything."""
    rng = np.random.default_rng(4)
    mask = outline(4, 10, 22)
    first = np.where(mask > 127, soft(rng, 9), soft(rng, 6)).astype(np.uint8)
    second = first.copy()
    around = np.argwhere(mask == 0)
    differs = rng.permutation(len(around))[: round((1 - share) * len(around))]
    rows, columns = around[differs].T
    second[rows, columns] = (first[rows, columns].astype(int) + 128) % 256
    found = correlation(np.array([first, second]), np.array([mask] * 2), CandidatePair(1.0, 0, 1, False, 0, PERSON))
    assert found == pytest.approx(1, abs=0.02) if is_same else found == -1


def test_only_what_is_inside_of_both_outlines_is_laid_over() -> None:
    """Beside the person there is a pattern that is shifted by three pixels: it draws nobody's picture with it."""
    rng = np.random.default_rng(5)
    wide = soft(rng, 9)
    person, both = outline(2, 2, 16), outline(2, 2, 30)
    shifted = wide.copy()
    shifted[:, 16:] = np.roll(wide, 3, axis=1)[:, 16:]
    grey = np.array([wide, shifted]).astype(np.uint8)
    for masks in ((both, person), (person, both)):
        one = CandidatePair(1.0, 0, 1, False, 0, PERSON)
        assert correlation(grey, np.array(masks), one) > 0.99


@pytest.mark.parametrize(("spread", "levels"), [(2.0, 6.0), (30.0, 10.5), (60.0, 16.0)])
def test_levels_that_are_the_same(spread: float, levels: float) -> None:
    """0.35 of what the surroundings spread, but 6 at least and 16 at most; half of them differ by so much."""
    person = np.random.default_rng(0).uniform(0, 255, (30, 32))
    around = np.array([[100 - spread, 100 + spread] * 16] * 2)
    first = np.vstack([person, around])
    is_person = np.arange(32)[:, None] + np.zeros((1, 32), int) < 30
    for change, share in ((levels - 0.2, 1.0), (levels + 0.2, 0.5)):
        second = first.copy()
        second[30, 0:16] += change
        second[31, 0:16] -= change
        found = near_duplicates._same_share(first, second, is_person, ~is_person)  # type: ignore[arg-type]
        assert found == share


def test_surroundings_may_be_of_another_brightness_than_the_person() -> None:
    """Fitted to the person or to everything, whichever makes more of them the same."""
    rng = np.random.default_rng(1)
    first = rng.uniform(50, 150, (32, 32))
    is_person = outline(8, 10, 22) > 127
    person_changed = np.where(is_person, 200 - first, first)
    assert near_duplicates._same_share(first, person_changed, is_person, ~is_person) < 0.5  # type: ignore[arg-type]
    little = np.zeros_like(is_person)
    little[10:13, 10:13] = True
    changed = np.where(little, 200 - first, first * 1.2 - 10)
    assert near_duplicates._same_share(first, changed, little, ~little) > 0.95  # type: ignore[arg-type]
    alone = np.where(is_person, first * 1.2 - 10, first * 1.2 - 10)
    alone[~is_person] += rng.choice([0.0, 100.0], int((~is_person).sum()))
    share = near_duplicates._same_share(first, alone, is_person, ~is_person)  # type: ignore[arg-type]
    assert share == pytest.approx(0.5, abs=0.06), "the person says how bright the picture is"


def test_flat_people_do_not_divide_by_nothing() -> None:
    first = np.random.default_rng(1).uniform(50, 150, (32, 32))
    is_person = outline(8, 10, 22) > 127
    flat = np.where(is_person, 90.0, first)
    with np.errstate(all="raise"):
        for pair in ((first, flat), (flat, first), (flat, flat)):
            found = near_duplicates._same_share(*pair, is_person, ~is_person)  # type: ignore[arg-type]
            assert 0 <= found <= 1
    assert near_duplicates._same_share(flat, np.full_like(flat, 90.0), is_person, ~is_person) < 0.5  # type: ignore[arg-type]


def test_what_the_other_photo_does_not_show_is_not_compared() -> None:
    """A photo whose upper rows were cut off, and a head with them."""
    rng = np.random.default_rng(9)
    spots = rng.uniform(0, 255, (8, 8)).astype(np.float32)
    wide = np.asarray(cv2.resize(spots, (SIDE, 40), interpolation=cv2.INTER_CUBIC), np.float64) * 0.7 + 40
    wide = np.clip(wide + rng.normal(0, 9, wide.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((40, SIDE), np.uint8)
    mask[1:30, 8:24] = 255
    grey, inside = (np.array([one[4:36], one[:32]]) for one in (wide, mask))
    assert correlation(grey, inside, CandidatePair(1.0, 0, 1, False, 0, PHOTO)) > 0.9


def test_the_most_similar_are_joined_first() -> None:
    """Of three copies the two that are the same are a pair, and one of them is a pair with the third."""
    grey, inside, _ = noisy(0.95)
    rows = two_like(grey, inside)
    pairs = near_pairs(rows[[0, 1, 0]]).tolist()
    assert [0, 2] in pairs
    assert len(pairs) == 2


def test_who_just_agrees_is_a_candidate(crowd: tuple[Image, Image], monkeypatch: pytest.MonkeyPatch) -> None:
    def correlations(first: Floats, *_: Floats) -> NDArray[np.float32]:
        return np.full(len(first), 0.75, np.float32)

    monkeypatch.setattr(near_duplicates, "_correlations", correlations)
    for least, is_found in ((0.75, True), (float(np.nextafter(np.float32(0.75), np.float32(1))), False)):
        monkeypatch.setattr(near_duplicates, "LEAST_AGREEMENT", least)
        assert bool(candidates(*crowd, np.arange(len(crowd[0])), PERSON)) == is_found
