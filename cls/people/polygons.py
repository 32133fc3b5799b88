"""Outlines and masks, the choice of people in a photo, and matching people between segmentations."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.errors import UsageError
from cls.people import ALL, CHOICES, LARGEST, SINGLE
from cls.people.photos import Person

_BOX_DECIMALS = 2
_POLYGON_DECIMALS = 6
# Above one half, a mask overlaps at most one of several that do not overlap each other (Kirillov et al., Panoptic
# Segmentation, CVPR 2019, section 4.1): nobody can be taken for two people.
SAME_PERSON_IOU = 0.5
_IOU_CELLS = 256
_ID_DIGITS = 15
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_SUBPIXEL_BITS = 4

# OpenCV's fixed-point coordinates hold a little more than this.
_MAX_COORDINATE_PX = 100_000.0

# Outlines in whole numbers: what lies inside is then exact, on every machine and in every language.
UNITS_PER_PX = 256
_CENTRE = UNITS_PER_PX // 2

# Products of two coordinates and a pixel's units fit into 64 bits.
_MAX_UNITS = UNITS_PER_PX << 20


def is_id(value: object) -> TypeGuard[str]:
    """Whether a value can be a person's id: 1 to 64 ASCII letters, digits, `-` and `_`."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def identified(path: str, people: Sequence[Person], taken: Collection[str] = ()) -> tuple[Person, ...]:
    """The people of a photo, each with an id; existing ids are kept.

    Other ids are derived from the picture's name and the person's box and outlines: the same stored row gives the same
    ids at any time and on any machine, and two people never share one, however alike their outlines are. An id is `p`
    and 15 hexadecimal digits, which no spreadsheet reads as a number.

    Args:
        path: the picture's name.
        people: all people in it. Of several with one id, the first one keeps it.
        taken: ids that are in use already.
    """
    given = [person.id for person in people]
    used = {*taken, *given}
    result = []
    for place, person in enumerate(people):
        is_kept = person.id and person.id not in given[:place]
        one = person if is_kept else replace(person, id=_derived_id(path, person, used))
        used.add(one.id)
        result.append(one)
    return tuple(result)


def _derived_id(path: str, person: Person, used: Collection[str]) -> str:
    digest = hashlib.sha256(path.encode(errors="surrogatepass") + b"\0")
    digest.update(_bytes_of(rounded_box(person)))
    for polygon in person.polygons_xy_rel:
        digest.update(b"%d " % len(polygon) + _bytes_of(rounded_polygon(polygon)))
    number = 0
    while True:  # people with the same outline are distinguished by their order
        numbered = digest.copy()
        numbered.update(b"%d" % number)
        found = f"p{numbered.hexdigest()[:_ID_DIGITS]}"
        if found not in used:
            return found
        number += 1


def rounded_box(person: Person) -> list[float]:
    """A person's box as it is stored: left, top, right, bottom in pixels, to 2 decimals."""
    return [round(float(value), _BOX_DECIMALS) for value in person.box_xyxy_px]


def rounded_polygon(polygon_xy_rel: NDArray[np.float64]) -> NDArray[np.float64]:
    """An outline as it is stored, float64 (points, 2): to 6 decimals, a hundredth of a pixel in the largest photo."""
    return np.round(np.asarray(polygon_xy_rel, np.float64).reshape(-1, 2), _POLYGON_DECIMALS)


def _bytes_of(values: Sequence[float] | NDArray[np.float64]) -> bytes:
    return (np.asarray(values, np.float64) + 0.0).astype("<f8").tobytes()  # + 0.0: -0.0 and 0.0 are one number


def same_people(before: Sequence[Person], after: Sequence[Person]) -> dict[int, int]:
    """Matches a photo's people between two segmentations, by the overlap of masks.

    Pairs with the highest intersection over union are matched first; it must be above one half. Of equal ones, those of
    the same class go first, then the earlier ones. Where one of two people has no outline, their boxes are compared.

    Returns:
        Place in `after` -> place in `before`, each at most once.
    """
    overlaps = []
    for new, person in enumerate(after):
        for old, other in enumerate(before):
            iou = person_iou(person, other)
            if iou > SAME_PERSON_IOU:
                overlaps.append((-iou, person.cls != other.cls, new, old))
    pairs: dict[int, int] = {}
    for _, _, new, old in sorted(overlaps):
        if new not in pairs and old not in pairs.values():
            pairs[new] = old
    return pairs


def person_iou(first: Person, second: Person) -> float:
    """Intersection over union of two people's masks, 0 to 1; of their boxes where one of them has no outline."""
    outlines = [person.polygons_xy_rel for person in (first, second)]
    if not all(outlines):
        return box_iou(first, second)
    corners = [(np.min([p.min(0) for p in parts], 0), np.max([p.max(0) for p in parts], 0)) for parts in outlines]
    low, high = np.minimum(corners[0][0], corners[1][0]), np.maximum(corners[0][1], corners[1][1])
    if (np.maximum(corners[0][0], corners[1][0]) > np.minimum(corners[0][1], corners[1][1])).any():
        return 0.0
    # Drawn where the two are: small people are compared as finely as large ones.
    scale = _IOU_CELLS / np.maximum(high - low, 1e-9)
    one, two = (
        draw_polygons([(polygon - low) * scale for polygon in parts], _IOU_CELLS, _IOU_CELLS) > 0 for parts in outlines
    )
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 0.0


def box_iou(first: Person, second: Person) -> float:
    """Intersection over union of two people's boxes; 0.0 where one has none."""
    left, top = np.maximum(first.box_xyxy_px[:2], second.box_xyxy_px[:2])
    right, bottom = np.minimum(first.box_xyxy_px[2:], second.box_xyxy_px[2:])
    common = max(right - left, 0.0) * max(bottom - top, 0.0)
    union = first.box_area_px + second.box_area_px - common
    return float(common / union) if union > 0 else 0.0


def choose_people(
    found: Sequence[Person], /, people: str = LARGEST, *, subject: str | None = None
) -> tuple[Person, ...]:
    """Chooses among the people found in a photo; returns those chosen, maybe none.

    Args:
        found: all people in a photo.
        people: `largest`: the one whose visible outline covers most of the photo (boxes are compared where one of them
            has no outline); of equals the most confident, then the first. `single`: the only one, none where there are
            several. `all`: all, in the given order.
        subject: only people of this class, e.g. `female`; of every class when None.

    Raises:
        UsageError: `people` is none of the three.
    """
    if people not in CHOICES:
        raise UsageError(
            f"people cannot be chosen by '{people}'",
            code="unknown_option_value",
            hint=f"use one of {', '.join(CHOICES)}",
        )
    candidates = tuple(person for person in found if subject is None or person.cls == subject)
    if people == ALL or not candidates:
        return candidates
    if people == SINGLE:
        return candidates if len(candidates) == 1 else ()
    return largest_first(candidates)[:1]


def largest_first(people: Sequence[Person]) -> tuple[Person, ...]:
    """The people of a photo, the largest first, as `choose_people` compares them."""
    # Fractions and pixels do not compare: one measure for the whole photo.
    is_outlined = all(outline_area(person) > 0 for person in people)
    areas = [outline_area(person) if is_outlined else person.box_area_px for person in people]
    order = sorted(range(len(people)), key=lambda index: (-areas[index], -people[index].conf, index))
    return tuple(people[index] for index in order)


def outline_area(person: Person) -> float:
    """Area inside a person's outlines as a fraction of the photo; 0.0 without an outline."""
    return sum(_polygon_area(polygon) for polygon in person.polygons_xy_rel)


def _polygon_area(polygon_xy: NDArray[np.float64]) -> float:
    """Area of a simple polygon (shoelace formula)."""
    if len(polygon_xy) < 3:
        return 0.0
    x, y = (polygon_xy - polygon_xy[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def mask_of_polygons(
    polygons_xy_rel: Sequence[NDArray[np.float64]], height_px: int, width_px: int
) -> NDArray[np.uint8]:
    """Draws polygons as a mask; returns uint8 of shape (height_px, width_px), 255 inside, 0 outside.

    Args:
        polygons_xy_rel: outlines, each (points, 2), fractions of width and height; values outside 0..1 are clipped by
            the picture's edge. Parts that overlap add up (union).
        height_px: height of the mask.
        width_px: width of the mask.
    """
    scale = np.array([width_px, height_px], np.float64)
    return draw_polygons([polygon * scale for polygon in polygons_xy_rel], height_px, width_px)


def draw_polygons(polygons_xy_px: Sequence[NDArray[np.float64]], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Draws polygons given in pixels as a mask; see `mask_of_polygons`.

    Args:
        polygons_xy_px: outlines, each (points, 2); (0, 0) is the upper left corner of the upper left pixel.
        height_px: height of the mask.
        width_px: width of the mask.

    Returns:
        uint8 of shape (height_px, width_px), 255 inside, 0 outside.
    """
    mask = np.zeros((height_px, width_px), np.uint8)
    for polygon in polygons_xy_px:
        if len(polygon) < 3:
            continue
        # A pixel's centre is at +0.5, OpenCV's integer coordinates are pixel centres.
        points = np.clip(polygon - 0.5, -_MAX_COORDINATE_PX, _MAX_COORDINATE_PX)
        fixed = np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [fixed.reshape(-1, 1, 2)], color=(255,), lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
    return mask


def in_units(polygon_xy_px: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rounds coordinates in pixels to whole units of 1/256 pixel, halves upwards; those beyond 2^20 pixels are cut off.

    Returns:
        int64 (points, 2).
    """
    units = np.clip(polygon_xy_px * UNITS_PER_PX, -_MAX_UNITS, _MAX_UNITS)
    return np.floor(units + 0.5).astype(np.int64)


def fill_outlines(outlines_xy: Sequence[NDArray[np.int64]], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """The pixels whose centre lies inside an outline (even-odd rule) or exactly on it.

    Args:
        outlines_xy: outlines in units (`in_units`), each int64 (points, 2), closed from the last point to the first;
            (0, 0) is the upper left corner of the upper left pixel, whose centre is (128, 128). Outlines add up.
        height_px: height of the mask.
        width_px: width of the mask.

    Returns:
        uint8 of shape (height_px, width_px), 255 inside, 0 outside.
    """
    mask = np.zeros((height_px, width_px), np.uint8)
    for outline in outlines_xy:
        mask |= _filled(outline, height_px, width_px)
    return mask


def _filled(points: NDArray[np.int64], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """One outline, row by row: where edges cross the line through the pixels' centres, the inside begins or ends."""
    ends = np.roll(points, -1, axis=0)
    is_upward = (ends[:, 1] < points[:, 1])[:, None]
    top_x, top_y = np.where(is_upward, ends, points).T
    bottom_x, bottom_y = np.where(is_upward, points, ends).T
    # An edge crosses the rows from its upper end to before its lower one, so that each corner counts once.
    first = np.clip(_first_centre(top_y), 0, height_px)
    counts = np.clip(_first_centre(bottom_y), 0, height_px) - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    # The first column whose centre is at the crossing or right of it, in whole numbers.
    divisor = (bottom_y - top_y)[edge] * UNITS_PER_PX
    dividend = (row * UNITS_PER_PX + _CENTRE - top_y[edge]) * (bottom_x - top_x)[edge]
    dividend += (top_x[edge] - _CENTRE) * (bottom_y - top_y)[edge]
    column = -(-dividend // divisor)
    # Each row has an even number of crossings: runs of outside and inside take turns over the whole picture.
    places = np.sort(row * width_px + np.clip(column, 0, width_px))
    runs = np.diff(places, prepend=0, append=height_px * width_px)
    levels = np.zeros(len(runs), np.uint8)
    levels[1::2] = 255
    mask = np.repeat(levels, runs).reshape(height_px, width_px)
    # What lies exactly on the outline: crossings at a centre, corners at a centre, edges along a row.
    is_on = (column * divisor == dividend) & (column >= 0) & (column < width_px)
    mask[row[is_on], column[is_on]] = 255
    corner_column, corner_row = ((points[((points - _CENTRE) % UNITS_PER_PX == 0).all(axis=1)]) // UNITS_PER_PX).T
    is_there = (corner_column >= 0) & (corner_column < width_px) & (corner_row >= 0) & (corner_row < height_px)
    mask[corner_row[is_there], corner_column[is_there]] = 255
    is_along = (top_y == bottom_y) & ((top_y - _CENTRE) % UNITS_PER_PX == 0)
    is_along &= (top_y >= 0) & (top_y < height_px * UNITS_PER_PX)
    for y, one, other in zip(top_y[is_along], top_x[is_along], bottom_x[is_along], strict=True):
        left, right = _first_centre(min(one, other)), (max(one, other) - _CENTRE) // UNITS_PER_PX
        mask[y // UNITS_PER_PX, max(left, 0) : max(right + 1, 0)] = 255
    return mask


def _first_centre(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first pixel whose centre is at a coordinate or beyond it."""
    return (units + (UNITS_PER_PX - 1 - _CENTRE)) // UNITS_PER_PX


def polygons_of_mask(
    mask: NDArray[np.uint8], *, tolerance_px: float = 1.0, min_area_px: float = 16.0
) -> list[NDArray[np.float64]]:
    """Outlines the parts of a mask (holes are filled).

    Args:
        mask: (height, width), non-zero inside.
        tolerance_px: how far an outline may stray from the mask's edge.
        min_area_px: parts smaller than this are left out.

    Returns:
        Polygons of shape (points, 2) in fractions of width and height, largest part first.
    """
    height_px, width_px = mask.shape
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    sized = sorted(((cv2.contourArea(c), i) for i, c in enumerate(contours)), reverse=True)
    polygons = []
    for area_px, index in sized:
        if area_px < min_area_px:
            break
        outline = cv2.approxPolyDP(contours[index], tolerance_px, closed=True).reshape(-1, 2)
        if len(outline) >= 3:
            polygons.append((outline.astype(np.float64) + 0.5) / np.array([width_px, height_px], np.float64))
    return polygons
