"""What is compared of a person to find copies of one photo: small grey pictures that hang on the outline. Arrays."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.people.photos import Person
from cls.people.polygons import draw_polygons, outline_area

Image = NDArray[np.uint8]

# Signatures of another version are not compared with these: raise it with everything that changes one.
VERSION = 3
SIDE_PX = 32
SIZE = (SIDE_PX, SIDE_PX)
_PIXELS = SIDE_PX * SIDE_PX
VIEW_BYTES = _PIXELS + _PIXELS // 8
# What a signature holds: the person's upper body, and the whole photo.
PERSON, PHOTO = VIEWS = 0, 1
# In square roots of the outline's area: the frame's side, and how far it begins above the top of the outline.
FRAME, ABOVE = 1.2, 0.08
# Rows above the one where this share of the outline is reached are a raised hand or a flaw.
_TOP_SHARE = 0.02
# The outermost line of a border has one grey value (97 percent of it, within 6 levels); 60 percent of its other lines.
_EDGE_SHARE, _BORDER_SHARE, _BORDER_SPREAD = 0.97, 0.6, 6
# Lines of text may lie between: together at most this share of all lines.
_TEXT_SHARE = 0.1
# A border ends within 3 lines, after which at most 40 percent of a line has its value; a plain wall ends gradually.
_END_LINES, _BEHIND_SHARE = 3, 0.4
# Borders within borders: a caption's bar in a padded photo.
_BORDERS = 2
# Where less of the outline is left, the border is a wall that somebody stands in front of, and is kept.
_LEAST_LEFT = 0.7
# A person whose grey values spread less than this is a shadow or a blank.
_LEAST_SPREAD = 4.0
_LEAST_AREA_PX = 16


def person_signature(image_rgb: Image, person: Person) -> Image | None:
    """What is compared of a person: two small grey pictures, each with the outline.

    The first shows the upper body, as captions cover feet and crops cut them off. Its frame hangs on the top of the
    outline and is as large as the root of the outline's area demands, which changes less than the box. The second is
    the whole photo. Borders of one grey value, such as bars with a caption, are cut off first, with the part of the
    outline that a segmentation model found in them.

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
    content = _content(grey)
    if cv2.countNonZero(mask[content]) >= _LEAST_LEFT * cv2.countNonZero(mask):
        grey, mask = grey[content], mask[content]
    rows, columns = (
        cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel().astype(np.int64) // 255 for axis in (1, 0)
    )
    area_px = int(columns.sum())
    if area_px < _LEAST_AREA_PX:
        return None
    unit_px = float(np.sqrt(area_px))
    side = round(FRAME * unit_px)
    left = round(float(columns @ np.arange(len(columns))) / area_px + 0.5 - side / 2)
    top = round(int(np.searchsorted(np.cumsum(rows), _TOP_SHARE * area_px)) - ABOVE * unit_px)
    views = (
        (_framed(grey, (left, top, side), cv2.BORDER_REPLICATE), _framed(mask, (left, top, side), cv2.BORDER_CONSTANT)),
        (_small(grey), _small(mask)),
    )
    pixels, is_inside = views[PERSON][0], views[PERSON][1] > 127
    if not is_inside.any() or float(pixels[is_inside].std()) < _LEAST_SPREAD:
        return None
    return np.stack([np.concatenate([pixels.reshape(-1), np.packbits(inside > 127)]) for pixels, inside in views])


def enough_px(person: Person) -> int:
    """The longer side of the smallest version of a photo that has all that a person's signature looks at."""
    return int(np.clip(1.5 * SIDE_PX / (FRAME * np.sqrt(max(outline_area(person), 1e-6))), 128, 8192))


def _content(grey: Image) -> tuple[slice, slice]:
    """Rows and columns of a photo without borders of one grey value, such as padding, or bars with a caption."""
    rows, columns = [0, grey.shape[0]], [0, grey.shape[1]]
    for _ in range(_BORDERS):
        before = (*rows, *columns)
        for edges, is_turned in ((rows, False), (columns, True)):
            for end in (0, 1):
                inner = grey[rows[0] : rows[1], columns[0] : columns[1]]
                lines = inner.T if is_turned else inner
                width_px = _border_px(lines[::-1] if end else lines)
                edges[end] += -width_px if end else width_px
        if before == (*rows, *columns):
            break
    is_wide = rows[1] - rows[0] >= grey.shape[0] / 4 and columns[1] - columns[0] >= grey.shape[1] / 4
    return (slice(*rows), slice(*columns)) if is_wide else (slice(None), slice(None))


def _border_px(lines: Image) -> int:
    """How many of the first lines are a border, with lines of text in it or without; 0 where all are, or none is."""
    ordered = np.sort(lines[0])
    value = (int(ordered[(len(ordered) - 1) // 2]) + int(ordered[len(ordered) // 2])) // 2
    # Most photos have no border: their outermost lines tell it.
    same = np.searchsorted(ordered, (value - _BORDER_SPREAD, value + _BORDER_SPREAD + 1))
    if same[1] - same[0] < _EDGE_SHARE * len(ordered):
        return 0
    shares = (np.abs(lines.astype(np.int16) - value) <= _BORDER_SPREAD).mean(axis=1)
    borders = np.flatnonzero(shares >= _BORDER_SHARE)
    gaps = np.flatnonzero(np.diff(borders) > 1 + _TEXT_SHARE * len(lines))
    width_px = int(borders[gaps[0] if len(gaps) else -1]) + 1
    behind = shares[width_px : width_px + _END_LINES]
    return width_px if len(behind) and behind.min() <= _BEHIND_SHARE else 0


def _framed(image: Image, frame: tuple[int, int, int], border: int) -> Image:
    """A square of a picture (left, top, side), which may stick out of it, in small."""
    left, top, side = frame
    height_px, width_px = image.shape
    inner = image[max(top, 0) : top + side, max(left, 0) : left + side]
    beyond = (max(-top, 0), max(top + side - height_px, 0), max(-left, 0), max(left + side - width_px, 0))
    return _small(np.asarray(cv2.copyMakeBorder(inner, *beyond, border, value=(0,)), np.uint8))


def _small(image: Image) -> Image:
    interpolation = cv2.INTER_AREA if min(image.shape) >= SIDE_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, SIZE, interpolation=interpolation), np.uint8)


def unpacked(views: NDArray[np.uint8]) -> tuple[Image, Image]:
    """Grey values, and 255 inside of the outline: both uint8 (people, SIDE_PX, SIDE_PX)."""
    shape = (len(views), SIDE_PX, SIDE_PX)
    bits = np.unpackbits(views[:, _PIXELS:], axis=1)
    return views[:, :_PIXELS].reshape(shape), (bits * np.uint8(255)).reshape(shape)
