"""People in copies of one photo: saved again, resized, mirrored, padded, captioned or cropped. Arrays in, pairs out.

What decides is the person's own pixels, never the backdrop alone. Thresholds were measured, see decision 0017.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.people.choice import outline_area
from cls.people.person import Person
from cls.people.polygons import draw_polygons

Image = NDArray[np.uint8]
# Signatures of another version are not compared with these: raise it with everything that changes one.
VERSION = 2
SIDE_PX = 32
_PIXELS = SIDE_PX * SIDE_PX
VIEW_BYTES = _PIXELS + _PIXELS // 8
# What a signature holds: the person's upper body, and the whole photo.
PERSON, PHOTO = VIEWS = 0, 1
# How similar low frequencies have to be for pixels to be compared, and how the fine structure of the person has to
# correlate in copies of one photo; by view.
LEAST_SIMILARITY = (0.5, 0.8)
LEAST_CORRELATION = (0.84, 0.8)
# So many others are compared with one by their pixels, the most similar first.
_MOST_CANDIDATES = 3
# In square roots of the outline's area: the frame's side, and how far it begins above the top of the outline.
_FRAME, _ABOVE = 1.2, 0.08
# Rows above the one where this share of the outline is reached are a raised hand or a flaw.
_TOP_SHARE = 0.02
# Another outline of the same person gives another frame: its scale, and how far it is shifted down, in frames.
_OTHER_FRAMES = ((1.0, 0.0), (0.87, 0.0), (1.15, 0.0), (1.0, -0.1), (1.0, 0.1), (1.0, -0.2), (1.0, 0.2))
# A line of the photo is a border where this share of it has the grey value of the edge, but for so many levels.
_BORDER_SHARE, _BORDER_SPREAD = 0.6, 10
# Borders within borders: a caption's bar in a padded photo.
_BORDERS = 2
_FREQUENCIES = 10
# A person whose grey values spread less than this is a shadow or a blank.
_LEAST_SPREAD = 4.0
_LEAST_AREA_PX = 16
_LEAST_SHARED_PX = 40
_DETAIL_PX = 3.0
# Of the surroundings, this share has to be the same but for so many of their standard deviations, within grey levels.
_LEAST_SURROUNDINGS, _SAME_SPREADS, _SAME_LEVELS = 0.55, 0.35, (6, 16)
_STEPS = 25
_BLOCK = 1024
_SIZE = (SIDE_PX, SIDE_PX)
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Candidate(NamedTuple):
    """Two people whose pixels are worth comparing.

    Attributes:
        similarity: of their low frequencies, up to 1.
        left: row of one.
        right: row of the other, below.
        is_mirrored: whether the other is to be mirrored.
        frame: which of `_OTHER_FRAMES` the one is to be seen in.
        view: in which view they are similar.
    """

    similarity: float
    left: int
    right: int
    is_mirrored: bool
    frame: int
    view: int


def person_signature(image_rgb: Image, person: Person) -> Image | None:
    """What is compared of a person: two small grey pictures, each with the outline.

    The first shows the upper body, as captions cover feet and crops cut them off. Its frame hangs on the top of the
    outline and is as large as the root of the outline's area demands, which changes less than the box. The second is
    the whole photo.

    Args:
        image_rgb: uint8 (height, width, 3); a small version will do, see `enough_px`.
        person: whom to look at.

    Returns:
        uint8 (2, VIEW_BYTES): grey values row by row, then a bit a pixel that is set inside the outline. None for
        people without an outline, of a few pixels, or without any structure: they are like any other.
    """
    height_px, width_px = image_rgb.shape[:2]
    scale = np.array([width_px, height_px], np.float64)
    outlines = [polygon * scale for polygon in person.polygons_xy_rel if len(polygon) >= 3]
    grey = np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    mask = draw_polygons(outlines, height_px, width_px)
    moments = cv2.moments(mask, binaryImage=True)
    area_px = moments["m00"]
    if area_px < _LEAST_AREA_PX:
        return None
    rows = np.cumsum(cv2.reduce(mask, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).reshape(-1))
    unit_px = float(np.sqrt(area_px))
    side = round(_FRAME * unit_px)
    left = round(moments["m10"] / area_px + 0.5 - side / 2)
    top = round(int(np.searchsorted(rows, _TOP_SHARE * rows[-1])) - _ABOVE * unit_px)
    content = _content(grey)
    views = (
        (_framed(grey, (left, top, side), cv2.BORDER_REPLICATE), _framed(mask, (left, top, side), cv2.BORDER_CONSTANT)),
        (_small(grey[content]), _small(mask[content])),
    )
    pixels, is_inside = views[PERSON][0], views[PERSON][1] > 127
    if not is_inside.any() or float(pixels[is_inside].std()) < _LEAST_SPREAD:
        return None
    return np.stack([np.concatenate([pixels.reshape(-1), np.packbits(inside > 127)]) for pixels, inside in views])


def enough_px(person: Person) -> int:
    """The longer side of the smallest version of a photo that has all that a person's signature looks at."""
    return int(np.clip(1.5 * SIDE_PX / (_FRAME * np.sqrt(max(outline_area(person), 1e-6))), 128, 8192))


def _content(grey: Image) -> tuple[slice, slice]:
    """Rows and columns of a photo without borders of one grey value, such as padding, or bars with a caption."""
    rows, columns = [0, grey.shape[0]], [0, grey.shape[1]]
    for _ in range(_BORDERS):
        for edges, is_turned in ((rows, False), (columns, True)):
            for end in (0, 1):
                inner = grey[rows[0] : rows[1], columns[0] : columns[1]]
                lines = inner.T if is_turned else inner
                width_px = _border_px(lines[::-1] if end else lines)
                edges[end] += -width_px if end else width_px
    is_wide = rows[1] - rows[0] >= grey.shape[0] / 4 and columns[1] - columns[0] >= grey.shape[1] / 4
    return (slice(*rows), slice(*columns)) if is_wide else (slice(None), slice(None))


def _border_px(lines: Image) -> int:
    """How many of the first lines have, for the most part, the grey value of the very first one; 0 where all have."""
    distance = np.abs(lines.astype(np.int16) - np.int16(np.median(lines[0])))
    is_border = (distance <= _BORDER_SPREAD).mean(axis=1) >= _BORDER_SHARE
    return int(np.argmin(is_border))


def _framed(image: Image, frame: tuple[int, int, int], border: int) -> Image:
    """A square of a picture (left, top, side), which may stick out of it, in small."""
    left, top, side = frame
    height_px, width_px = image.shape
    inner = image[max(top, 0) : top + side, max(left, 0) : left + side]
    beyond = (max(-top, 0), max(top + side - height_px, 0), max(-left, 0), max(left + side - width_px, 0))
    return _small(np.asarray(cv2.copyMakeBorder(inner, *beyond, border, value=(0,)), np.uint8))


def _small(image: Image) -> Image:
    interpolation = cv2.INTER_AREA if min(image.shape) >= SIDE_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, _SIZE, interpolation=interpolation), np.uint8)


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


def unpacked(views: NDArray[np.uint8]) -> tuple[Image, Image]:
    """Grey values, and 255 inside of the outline: both uint8 (people, SIDE_PX, SIDE_PX)."""
    shape = (len(views), SIDE_PX, SIDE_PX)
    bits = np.unpackbits(views[:, _PIXELS:], axis=1)
    return views[:, :_PIXELS].reshape(shape), (bits * np.uint8(255)).reshape(shape)


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
    middle, top = (SIDE_PX - 1) / 2, SIDE_PX * _ABOVE / _FRAME
    return np.array([[scale, 0, middle * (1 - scale)], [0, scale, top * (1 - scale) + down * SIDE_PX]], np.float32)


def _warped(images: Image, frame: int) -> Image:
    if not frame:
        return images
    warp = _frame_warp(frame)
    return np.stack([cv2.warpAffine(one, warp, _SIZE, flags=_WARP, borderMode=cv2.BORDER_REPLICATE) for one in images])


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
    everywhere = np.full(_SIZE, 255, np.uint8)
    is_person = one.view == PERSON
    try:
        _, found = cv2.findTransformECCWithMask(
            fixed,
            moved,
            fixed_inside if is_person else everywhere,
            moved_inside if is_person else everywhere,
            _frame_warp(one.frame),
            cv2.MOTION_AFFINE,
            (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, 1e-3),
            3,
        )
    except cv2.error:  # nothing in common, or no convergence
        return -1.0
    warp = np.asarray(found, np.float32)
    moved, moved_inside, is_there = (
        np.asarray(cv2.warpAffine(each, warp, _SIZE, flags=_WARP), np.uint8)
        for each in (moved, moved_inside, everywhere)
    )
    if is_person:
        is_compared = (fixed_inside > 127) & (moved_inside > 127)
    else:
        is_compared = (fixed_inside > 127) | (moved_inside > 127)
    is_compared &= is_there > 250
    if is_compared.sum() < _LEAST_SHARED_PX:
        return -1.0
    is_around = (is_there > 250) & (np.maximum(fixed_inside, moved_inside) < 128)
    if _are_other_surroundings(fixed, moved, is_compared, is_around):
        return -1.0
    first, second = (_details(each, is_compared) for each in (fixed, moved))
    return float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-6)


def _are_other_surroundings(
    first: Image, second: Image, is_compared: NDArray[np.bool_], is_around: NDArray[np.bool_]
) -> bool:
    """Whether most of what is around people differs, once one picture is as bright and contrasted as the other.

    A part may differ: padding, a caption. Copies of one photo have the rest in common; people who look alike have not.
    """
    if is_around.sum() < _LEAST_SHARED_PX:
        return False
    here, there = first[is_around].astype(np.float64), second[is_around].astype(np.float64)
    same_levels = np.clip(_SAME_SPREADS * here.std(), *_SAME_LEVELS)
    shares = []
    for fitted in (is_compared, is_compared | is_around):
        slope, offset = np.polyfit(second[fitted].astype(np.float64), first[fitted].astype(np.float64), 1)
        shares.append(float((np.abs(here - (slope * there + offset)) <= same_levels).mean()))
    return max(shares) < _LEAST_SURROUNDINGS


def _details(grey: Image, is_compared: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What grey values have that a blurred picture of the compared pixels lacks; float32 (pixels,), of mean 0."""
    weights = is_compared.astype(np.float32)
    blurred, total = (cv2.GaussianBlur(each, (0, 0), _DETAIL_PX) for each in (grey * weights, weights))
    details = (grey - blurred / np.maximum(total, 1e-3))[is_compared]
    return np.asarray(details - details.mean(), np.float32)
