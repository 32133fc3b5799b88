"""Finds people in copies of one photo: saved again, resized, mirrored, padded, captioned or cropped.

The person's own pixels decide, never the background alone. The thresholds were measured, see decision 0017.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.dataset.split.signatures import ABOVE, FRAME, PERSON, PHOTO, SIDE_PX, SIZE, VIEWS, Image, unpack_signatures

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
# Even and odd part, float32 (..., rows, features) each, of norm 1 together.
Features = tuple[Floats, Floats]

# Up to this number of rows all are compared with each other; of more, those of neighbourhoods of about `_SIZE` rows.
COMPARED_WITH_ALL, _SIZE, _MOST_NEIGHBOURHOODS = 4096, 256, 2048
# Neighbourhoods searched for a row; rounds of k-means that place their centres.
_VISITED, _ROUNDS = 8, 3
# Most elements of a matrix product.
_PRODUCTS = 1 << 20

# How similar low frequencies have to be for pixels to be compared, and how the fine structure of the person has to
# correlate in copies of one photo; by view.
LEAST_SIMILARITY = (0.5, 0.8)
LEAST_CORRELATION = (0.84, 0.8)

# Most candidates whose pixels are compared with one person's, those that agree most first.
_MOST_CANDIDATES = 3

# Another outline of the same person gives another frame: its scale, and how far it is shifted down, in frames.
_OTHER_FRAMES = ((1.0, 0.0), (0.87, 0.0), (1.15, 0.0), (1.0, -0.1), (1.0, 0.1), (1.0, -0.2), (1.0, 0.2))

# Most others whose medium frequencies are compared with one person's, and the correlation they must reach.
_MOST_SIMILAR = 16
LEAST_AGREEMENT = 0.6
_FREQUENCIES = 10
_LEAST_SHARED_PX = 40
_DETAIL_PX = 3.0

# (alignment steps, share of the surroundings that must match, least correlation): a few steps reject most pairs.
_PASSES = ((4, 0.4, 0.45), (25, 0.55, -1.0))
_SAME_SPREADS, _SAME_LEVELS = 0.35, (6, 16)
_BLOCK = 1024
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

# The first rows of the cosine transform as a matrix, and two blurs to half the size: of 1.5 and of 6 pixels.
_COSINES = cv2.dct(np.eye(SIDE_PX, dtype=np.float32), flags=cv2.DCT_ROWS).T[:_FREQUENCIES]
_HALF = np.repeat(np.eye(SIDE_PX // 2, dtype=np.float32), 2, axis=1) / 2

_BLURS = [
    _HALF @ (weights / weights.sum(axis=1, keepdims=True))
    for sigma_px in (1.5, 6.0)
    for weights in [np.exp(-np.square(np.subtract(*np.mgrid[:SIDE_PX, :SIDE_PX]) / sigma_px) / 2).astype(np.float32)]
]


class SimilarPairs(NamedTuple):
    """Pairs of rows, arrays of one length.

    Attributes:
        left: the smaller row numbers, int64.
        right: the larger ones, int64.
        similarity: float32, up to 1.
        variant: in which variant the left row is the most similar, int64.
        is_mirrored: bool.
    """

    left: Rows
    right: Rows
    similarity: Floats
    variant: Rows
    is_mirrored: NDArray[np.bool_]


class Neighbourhoods:
    """Rows of features, sorted into neighbourhoods of similar ones.

    Up to 4,096 rows are one neighbourhood. Among more a row is compared with those of eight neighbourhoods alone: the
    time a row takes grows little with their number.
    """

    def __init__(self, features: Features, numbers: Rows) -> None:
        """Sorts them.

        Args:
            features: of every row, float32 (rows, features) each.
            numbers: int64 (rows,); rows of one number are not compared.
        """
        self._features, self._numbers = features, numbers
        count = len(numbers)
        self._centres, self._members = features, [np.arange(count)]
        if count > COMPARED_WITH_ALL:
            self._sort(np.linspace(0, count - 1, min(count // _SIZE, _MOST_NEIGHBOURHOODS)).astype(np.int64))

    def _sort(self, first: Rows) -> None:
        even, odd = self._features
        self._centres = (even[first], odd[first])
        for left in reversed(range(_ROUNDS)):
            nearest, signs = self._nearest()
            if left:
                sums = [np.zeros_like(one) for one in self._centres]
                np.add.at(sums[0], nearest, even)
                np.add.at(sums[1], nearest, odd * signs[:, None])
                norms = np.maximum(np.sqrt((sums[0] ** 2).sum(axis=1) + (sums[1] ** 2).sum(axis=1)), 1e-6)
                self._centres = (sums[0] / norms[:, None], sums[1] / norms[:, None])
        order = np.argsort(nearest, kind="stable")
        self._members = np.split(order, np.searchsorted(nearest[order], np.arange(1, len(first))))

    def _nearest(self) -> tuple[Rows, Floats]:
        """The most similar centre of every row, and the sign of its odd part there."""
        even, odd = self._features
        nearest, signs = np.empty(len(even), np.int64), np.empty(len(even), np.float32)
        step = max(_PRODUCTS // len(self._centres[0]), 1)
        for start in range(0, len(even), step):
            rows = slice(start, start + step)
            products = odd[rows] @ self._centres[1].T
            nearest[rows] = (even[rows] @ self._centres[0].T + np.abs(products)).argmax(axis=1)
            signs[rows] = np.where(products[np.arange(len(products)), nearest[rows]] < 0, -1, 1)
        return nearest, signs

    def most_similar(self, start: int, variants: Features, *, least: float, most: int) -> SimilarPairs:
        """The most similar of the rows after each of some rows, of other numbers.

        Args:
            start: which row is the first of them.
            variants: of these rows, float32 (variants, rows, features) each.
            least: lowest similarity of a pair.
            most: how many are found for a row.
        """
        count = variants[0].shape[1]
        best = np.zeros((count, most), np.float32)
        where = np.zeros((3, count, most), np.int64)
        visits = self._visits(variants)
        for members, is_visitor in zip(self._members, visits.T, strict=True):
            columns = members[np.searchsorted(members, start, side="right") :]
            visitors = np.flatnonzero(is_visitor)
            step = max(_PRODUCTS // max(len(variants[0]) * len(columns), 1), 1)
            for first in range(0, len(visitors) if len(columns) else 0, step):
                some = visitors[first : first + step]
                self._compare(variants, start, some, columns, (best, where))
        left, place = np.nonzero(best >= max(least, 1e-6))
        right, variant, is_mirrored = where[:, left, place]
        return SimilarPairs(start + left, right, best[left, place], variant, is_mirrored > 0)

    def _visits(self, variants: Features) -> NDArray[np.bool_]:
        """Which neighbourhoods are looked at for which rows: bool (rows, neighbourhoods)."""
        if len(self._members) == 1:
            return np.ones((variants[0].shape[1], 1), np.bool_)
        highest = np.full((variants[0].shape[1], len(self._members)), -1, np.float32)
        for even, odd in zip(*variants, strict=True):
            np.maximum(highest, even @ self._centres[0].T + np.abs(odd @ self._centres[1].T), out=highest)
        border = np.partition(highest, -_VISITED, axis=1)[:, -_VISITED, None]
        return np.asarray(highest >= border)

    def _compare(self, variants: Features, start: int, some: Rows, columns: Rows, known: tuple[Floats, Rows]) -> None:
        """Enters the most similar of some rows and columns into the similarities, and their places, known before."""
        best, where = known
        even, odd = (
            (part[:, some].reshape(-1, part.shape[2]) @ mine[columns].T).reshape(-1, len(some), len(columns))
            for part, mine in zip(variants, self._features, strict=True)
        )
        similarity = np.abs(odd)
        similarity += even
        highest = similarity.max(axis=0)
        rows = start + some
        highest[(columns <= rows[:, None]) | (self._numbers[columns] == self._numbers[rows][:, None])] = 0
        most = min(best.shape[1], len(columns))
        place = np.argpartition(highest, len(columns) - most, axis=1)[:, -most:]
        here = np.arange(len(some))[:, None]
        variant = similarity[:, here, place].argmax(axis=0)
        found = np.stack([columns[place], variant, odd[variant, here, place] < 0])
        values = np.concatenate([best[some], highest[here, place]], axis=1)
        wheres = np.concatenate([where[:, some], found], axis=2)
        kept = np.argpartition(values, most, axis=1)[:, most:]
        best[some], where[:, some] = values[here, kept], wheres[:, here, kept]


class CandidatePair(NamedTuple):
    """Two people whose pixels are to be compared.

    Attributes:
        similarity: of their low frequencies, up to 1.
        left: row of the first person.
        right: row of the second person, larger than `left`.
        is_mirrored: whether the second person is mirrored.
        frame: index into `_OTHER_FRAMES` of the first person's frame.
        view: in which view they are similar.
    """

    similarity: float
    left: int
    right: int
    is_mirrored: bool
    frame: int
    view: int


def near_pairs(signatures: NDArray[np.uint8], units: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Pairs of people in copies of one photo: enough of them to connect all that belong together.

    Candidates are found by their low and medium frequencies, as matrix products; the pixels of a few are then aligned
    and compared.

    Args:
        signatures: uint8 (people, 2, VIEW_BYTES), of `person_signature`.
        units: int64 (people,), from 0 and less than their number; people of one belong together already and are not
            compared.

    Returns:
        int64 (pairs, 2), row numbers, the smaller first.
    """
    numbers = np.arange(len(signatures)) if units is None else units
    roots = list(range(len(numbers)))

    def root(number: int) -> int:
        while roots[number] != number:
            roots[number] = number = roots[roots[number]]
        return number

    pairs = []
    found = [one for view in VIEWS for one in candidates(*unpack_signatures(signatures[:, view]), numbers, view)]
    for one in sorted(found, key=lambda one: (-one.similarity, one)):
        first, second = root(int(numbers[one.left])), root(int(numbers[one.right]))
        if first == second:
            continue
        both = unpack_signatures(signatures[[one.left, one.right], one.view])
        if correlation(*both, one._replace(left=0, right=1)) >= LEAST_CORRELATION[one.view]:
            roots[second] = first
            pairs.append((one.left, one.right))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def candidates(grey: Image, inside: Image, numbers: NDArray[np.int64], view: int) -> list[CandidatePair]:
    """Pairs of people of different numbers who may be in copies of one photo, as they are or mirrored.

    Low frequencies select the most similar of all; of these, medium ones select those whose pixels are compared.

    Args:
        grey: uint8 (people, SIDE_PX, SIDE_PX), of `unpack_signatures`.
        inside: the same, of outlines.
        numbers: int64 (people,).
        view: which view they are.
    """
    if not len(grey):
        return []
    frames = range(len(_OTHER_FRAMES) if view == PERSON else 1)
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(grey), _BLOCK)]
    parts = [(*_low_frequencies(grey[rows], inside[rows], view), _medium_frequencies(grey[rows])) for rows in blocks]
    even, odd, medium = (np.concatenate(part) for part in zip(*parts, strict=True))
    neighbourhoods = Neighbourhoods((even, odd), numbers)
    found: list[CandidatePair] = []
    for rows in blocks:
        seen = [(_warped(grey[rows], frame), _warped(inside[rows], frame)) for frame in frames]
        low = [_low_frequencies(*each, view) for each in seen]
        variants = (np.stack([one for one, _ in low]), np.stack([other for _, other in low]))
        similar = neighbourhoods.most_similar(rows.start, variants, least=LEAST_SIMILARITY[view], most=_MOST_SIMILAR)
        where = (similar.variant, similar.left - rows.start)
        here = np.stack([_medium_frequencies(one) for one, _ in seen])[where]
        there, outlines = medium[similar.right], _halved(inside[similar.right])
        there, outlines = (
            np.where(similar.is_mirrored[:, None, None], each[:, :, ::-1], each) for each in (there, outlines)
        )
        outlines = np.maximum(outlines, np.stack([_halved(other) for _, other in seen])[where])
        agreement = np.minimum(_correlations(here, there, np.ones_like(here)), _correlations(here, there, outlines))
        found += _first_of_each(similar, agreement, view)
    return found


def _first_of_each(similar: SimilarPairs, agreement: NDArray[np.float32], view: int) -> list[CandidatePair]:
    """The candidates of each person that agree most, at least `LEAST_AGREEMENT`."""
    order = np.lexsort((similar.right, -agreement, similar.left))
    order = order[agreement[order] >= LEAST_AGREEMENT]
    rows = similar.left[order]
    order = order[np.arange(len(rows)) - np.searchsorted(rows, rows) < _MOST_CANDIDATES]
    return [
        CandidatePair(similarity, left, right, is_mirrored, frame, view)
        for left, right, similarity, frame, is_mirrored in zip(*(one[order].tolist() for one in similar), strict=True)
    ]


def _medium_frequencies(grey: Image) -> NDArray[np.float32]:
    """Differences of Gaussians of pictures at half the size: float32 (people, 16, 16)."""
    pixels = grey.astype(np.float32)
    less, more = (blur @ pixels @ blur.T for blur in _BLURS)
    return np.asarray(less - more, np.float32)


def _halved(inside: Image) -> NDArray[np.float32]:
    """Shares of outlines: float32 (people, 16, 16), 0 to 1."""
    return np.asarray(_HALF @ (inside.astype(np.float32) / 255) @ _HALF.T, np.float32)


def _correlations(
    first: NDArray[np.float32], second: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weighted correlations of pairs of pictures: float32 (pictures,), -1 to 1; about 0 without contrast."""
    weights = weights / np.maximum(weights.sum(axis=(1, 2), keepdims=True), 1e-6)
    first, second = (each - (weights * each).sum(axis=(1, 2), keepdims=True) for each in (first, second))
    products = [
        np.einsum("nij,nij,nij->n", weights, *both) for both in ((first, second), (first, first), (second, second))
    ]
    return np.asarray(products[0] / np.maximum(np.sqrt(products[1] * products[2]), 0.01), np.float32)


def _frame_warp(frame: int) -> NDArray[np.float32]:
    """Where a pixel of another frame is in the frame: float32 (2, 3)."""
    scale, down = _OTHER_FRAMES[frame]
    middle, top = (SIDE_PX - 1) / 2, SIDE_PX * ABOVE / FRAME
    return np.array([[scale, 0, middle * (1 - scale)], [0, scale, top * (1 - scale) + down * SIDE_PX]], np.float32)


def _warped(images: Image, frame: int) -> Image:
    if not frame:
        return images
    warp = _frame_warp(frame)
    return np.stack([cv2.warpAffine(one, warp, SIZE, flags=_WARP, borderMode=cv2.BORDER_REPLICATE) for one in images])


def _low_frequencies(grey: Image, inside: Image, view: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of the cosine transform, the even and the odd columns: float32 (people, frequencies) each, of norm 1 together.

    In the photo's view everything counts; in the person's, what is outside the outline is as the mean inside.
    """
    pixels = grey.astype(np.float32)
    counts = np.ones_like(pixels) if view == PHOTO else (inside > 127).astype(np.float32)
    means = (pixels * counts).sum(axis=(1, 2)) / np.maximum(counts.sum(axis=(1, 2)), 1)
    frequencies = _COSINES @ ((pixels - means[:, None, None]) * counts) @ _COSINES.T
    # Photos and people have the less of a frequency the higher it is.
    frequencies *= np.hypot(*np.mgrid[:_FREQUENCIES, :_FREQUENCIES]).astype(np.float32)
    frequencies /= np.maximum(np.linalg.norm(frequencies, axis=(1, 2), keepdims=True), 1e-6)
    even, odd = (frequencies[:, :, start::2].reshape(len(grey), _FREQUENCIES**2 // 2) for start in (0, 1))
    return even, odd


def correlation(grey: Image, inside: Image, one: CandidatePair) -> float:
    """How the fine structure of two people correlates once one picture is aligned with the other.

    Args:
        grey: uint8 (people, SIDE_PX, SIDE_PX), of `unpack_signatures`.
        inside: the same, of outlines.
        one: which two.

    Returns:
        The correlation of high frequencies, -1 to 1: inside both outlines in the person's view, inside either in the
        photo's. -1 where they cannot be aligned, or the surroundings differ.
    """
    step = -1 if one.is_mirrored else 1
    fixed, fixed_inside = (np.ascontiguousarray(each[one.right][:, ::step]) for each in (grey, inside))
    moved, moved_inside = grey[one.left], inside[one.left]
    everywhere = np.full(SIZE, 255, np.uint8)
    is_person = one.view == PERSON
    masks = (fixed_inside, moved_inside) if is_person else (everywhere, everywhere)
    warp, agreed = _frame_warp(one.frame), -1.0
    for steps, least_share, least_correlation in _PASSES:
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-3)
        try:
            _, found = cv2.findTransformECCWithMask(
                fixed, moved, masks[0], masks[1], warp, cv2.MOTION_AFFINE, criteria, 3
            )
        except cv2.error:  # nothing in common, or no convergence
            return -1.0
        warp = np.asarray(found, np.float32)
        other, other_inside, is_there = (
            np.asarray(cv2.warpAffine(each, warp, SIZE, flags=_WARP), np.uint8)
            for each in (moved, moved_inside, everywhere)
        )
        if is_person:
            is_compared = (fixed_inside > 127) & (other_inside > 127)
        else:
            is_compared = (fixed_inside > 127) | (other_inside > 127)
        is_compared &= is_there > 250
        is_around = (is_there > 250) & (np.maximum(fixed_inside, other_inside) < 128)
        if (
            np.count_nonzero(is_compared) < _LEAST_SHARED_PX
            or _same_share(fixed, other, is_compared, is_around) < least_share
        ):
            return -1.0
        first, second = (_details(each, is_compared) for each in (fixed, other))
        agreed = float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-6)
        if agreed < least_correlation:
            return -1.0
    return agreed


def _same_share(first: Image, second: Image, is_compared: NDArray[np.bool_], is_around: NDArray[np.bool_]) -> float:
    """The share of the surroundings that is the same, once brightness and contrast are matched.

    A part may differ in copies, such as padding or a caption; in photos of people who look alike most of it does.
    """
    if np.count_nonzero(is_around) < _LEAST_SHARED_PX:
        return 1.0
    target, given = first.astype(np.float32), second.astype(np.float32)
    here, there = target[is_around], given[is_around]
    same_levels = float(np.clip(_SAME_SPREADS * here.std(), *_SAME_LEVELS))
    shares = []
    for fitted in (is_compared, is_compared | is_around):
        mine, theirs = target[fitted], given[fitted]
        mean = theirs.mean()
        theirs -= mean
        slope = float(theirs @ mine) / max(float(theirs @ theirs), 1e-6)
        offset = float(mine.mean()) - slope * float(mean)
        is_same = np.abs(here - (slope * there + offset)) <= same_levels
        shares.append(np.count_nonzero(is_same) / len(here))
    return max(shares)


def _details(grey: Image, is_compared: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Grey values less those of a blurred picture of the compared pixels; float32 (pixels,), of mean 0."""
    weights = is_compared.astype(np.float32)
    blurred, total = (cv2.GaussianBlur(each, (0, 0), _DETAIL_PX) for each in (grey * weights, weights))
    details = (grey - blurred / np.maximum(total, 1e-3))[is_compared]
    return np.asarray(details - details.mean(), np.float32)
