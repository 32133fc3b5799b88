"""People in copies of one photo: saved again, resized, mirrored, padded, captioned or cropped. Arrays in, pairs out.

What decides is the person's own pixels, never the backdrop alone. Thresholds were measured, see decision 0017.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.dataset.person_signature import ABOVE, FRAME, PERSON, PHOTO, SIDE_PX, SIZE, VIEWS, Image, unpacked

# How similar low frequencies have to be for pixels to be compared, and how the fine structure of the person has to
# correlate in copies of one photo; by view.
LEAST_SIMILARITY = (0.5, 0.8)
LEAST_CORRELATION = (0.84, 0.8)
# So many others are compared with one by their pixels, the most similar first.
_MOST_CANDIDATES = 3
# Another outline of the same person gives another frame: its scale, and how far it is shifted down, in frames.
_OTHER_FRAMES = ((1.0, 0.0), (0.87, 0.0), (1.15, 0.0), (1.0, -0.1), (1.0, 0.1), (1.0, -0.2), (1.0, 0.2))
_FREQUENCIES = 10
_LEAST_SHARED_PX = 40
_DETAIL_PX = 3.0
# (alignment steps, share of the surroundings that must match): a few steps tell most pairs apart, then all of them.
_PASSES = ((4, 0.4), (25, 0.55))
_SAME_SPREADS, _SAME_LEVELS = 0.35, (6, 16)
_BLOCK = 1024
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Candidate(NamedTuple):
    """Two people whose pixels are worth comparing.

    Attributes:
        similarity: of their low frequencies, up to 1.
        left: row of one.
        right: row of the other, below.
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

    Candidates are found by their low frequencies, each with each in blocks of matrix products; then the pixels of the
    most similar are laid over each other.

    Args:
        signatures: uint8 (people, 2, VIEW_BYTES), of `person_signature`.
        units: int64 (people,), from 0; people of one number belong together already and are not compared.

    Returns:
        int64 (pairs, 2), row numbers, the smaller first.
    """
    numbers = np.arange(len(signatures)) if units is None else units
    views = [unpacked(signatures[:, view]) for view in VIEWS]
    roots = list(range(int(numbers.max(initial=-1)) + 1))

    def root(number: int) -> int:
        while roots[number] != number:
            roots[number] = number = roots[roots[number]]
        return number

    pairs = []
    found = [one for view in VIEWS for one in candidates(*views[view], numbers, view)]
    for one in sorted(found, key=lambda one: (-one.similarity, one)):
        first, second = root(int(numbers[one.left])), root(int(numbers[one.right]))
        if first != second and correlation(*views[one.view], one) >= LEAST_CORRELATION[one.view]:
            roots[second] = first
            pairs.append((one.left, one.right))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def candidates(grey: Image, inside: Image, numbers: NDArray[np.int64], view: int) -> list[Candidate]:
    """The most similar of all pairs of people of different numbers, as they are and mirrored.

    Args:
        grey: uint8 (people, SIDE_PX, SIDE_PX), of `unpacked`.
        inside: the same, of outlines.
        numbers: int64 (people,).
        view: which view they are.
    """
    frames = range(len(_OTHER_FRAMES) if view == PERSON else 1)
    others = _low_frequencies(grey, inside, view)
    found: list[Candidate] = []
    for start in range(0, len(grey), _BLOCK):
        rows = slice(start, start + _BLOCK)
        best = np.zeros((len(grey[rows]), len(grey) - start), np.float32)
        what = np.zeros(best.shape, np.int8)
        for frame in frames:
            seen = _low_frequencies(_warped(grey[rows], frame), _warped(inside[rows], frame), view)
            # Mirroring turns the sign of every second column.
            symmetric = seen[0] @ others[0][start:].T
            antisymmetric = seen[1] @ others[1][start:].T
            similarity = symmetric + np.abs(antisymmetric)
            is_better = similarity > best
            np.copyto(best, similarity, where=is_better)
            np.copyto(what, (2 * frame + (antisymmetric < 0)).astype(np.int8), where=is_better)
        best[numbers[rows, None] == numbers[None, start:]] = 0
        left, right = np.nonzero(np.triu(best >= LEAST_SIMILARITY[view], 1))
        order = np.lexsort((right, -best[left, right], left))
        left, right = left[order], right[order]
        is_kept = np.arange(len(left)) - np.searchsorted(left, left) < _MOST_CANDIDATES
        for row, column in zip(left[is_kept].tolist(), right[is_kept].tolist(), strict=True):
            frame, is_mirrored = divmod(int(what[row, column]), 2)
            places = start + row, start + column
            found.append(Candidate(float(best[row, column]), *places, bool(is_mirrored), frame, view))
    return found


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
    frequencies = np.empty((len(grey), _FREQUENCIES, _FREQUENCIES), np.float32)
    for number, (pixels, mask) in enumerate(zip(grey, inside, strict=True)):
        counts = np.ones(pixels.shape, np.float32) if view == PHOTO else (mask > 127).astype(np.float32)
        mean = float((pixels * counts).sum() / max(float(counts.sum()), 1.0))
        frequencies[number] = cv2.dct((pixels - mean) * counts)[:_FREQUENCIES, :_FREQUENCIES]
    # Photos and people have the less of a frequency the higher it is.
    frequencies *= np.hypot(*np.mgrid[:_FREQUENCIES, :_FREQUENCIES]).astype(np.float32)
    frequencies /= np.maximum(np.linalg.norm(frequencies, axis=(1, 2), keepdims=True), 1e-6)
    even, odd = (frequencies[:, :, start::2].reshape(len(grey), _FREQUENCIES**2 // 2) for start in (0, 1))
    return even, odd


def correlation(grey: Image, inside: Image, one: Candidate) -> float:
    """How the fine structure of two people agrees once one picture is laid over the other.

    Args:
        grey: uint8 (people, SIDE_PX, SIDE_PX), of `unpacked`.
        inside: the same, of outlines.
        one: which two.

    Returns:
        The correlation, -1 to 1, of what blurred pictures lack: of the person's view, where it is inside of both
        outlines, of the photo's, where it is inside of either. -1 where they cannot be laid over each other, or have
        other surroundings.
    """
    step = -1 if one.is_mirrored else 1
    fixed, fixed_inside = (np.ascontiguousarray(each[one.right][:, ::step]) for each in (grey, inside))
    moved, moved_inside = grey[one.left], inside[one.left]
    everywhere = np.full(SIZE, 255, np.uint8)
    is_person = one.view == PERSON
    masks = (fixed_inside, moved_inside) if is_person else (everywhere, everywhere)
    warp = _frame_warp(one.frame)
    for steps, least_share in _PASSES:
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
        if is_compared.sum() < _LEAST_SHARED_PX or _same_share(fixed, other, is_compared, is_around) < least_share:
            return -1.0
    first, second = (_details(each, is_compared) for each in (fixed, other))
    return float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-6)


def _same_share(first: Image, second: Image, is_compared: NDArray[np.bool_], is_around: NDArray[np.bool_]) -> float:
    """Which share of the surroundings is the same, once one picture is as bright and contrasted as the other.

    A part may differ: padding, a caption. Copies of one photo have the rest in common; people who look alike have not.
    """
    if is_around.sum() < _LEAST_SHARED_PX:
        return 1.0
    here, there = first[is_around].astype(np.float32), second[is_around].astype(np.float32)
    same_levels = float(np.clip(_SAME_SPREADS * here.std(), *_SAME_LEVELS))
    shares = []
    for fitted in (is_compared, is_compared | is_around):
        target, given = first[fitted].astype(np.float32), second[fitted].astype(np.float32)
        slope = float(((given - given.mean()) * target).mean()) / max(float(given.var()), 1e-6)
        offset = float(target.mean()) - slope * float(given.mean())
        shares.append(float((np.abs(here - (slope * there + offset)) <= same_levels).mean()))
    return max(shares)


def _details(grey: Image, is_compared: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What grey values have that a blurred picture of the compared pixels lacks; float32 (pixels,), of mean 0."""
    weights = is_compared.astype(np.float32)
    blurred, total = (cv2.GaussianBlur(each, (0, 0), _DETAIL_PX) for each in (grey * weights, weights))
    details = (grey - blurred / np.maximum(total, 1e-3))[is_compared]
    return np.asarray(details - details.mean(), np.float32)
