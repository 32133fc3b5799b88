"""Pictures that show the same photo: re-encoded, resized, a little cropped or brightened. Arrays in, pairs out.

A perceptual hash (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010) of 64 bits finds
candidates, and 192 further bits of the same transform confirm them. Distances were measured, see decision 0017.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

# Of the 64 bits, and of all 256: pictures nearer than both are the same photo.
HASH_DISTANCE, SIGNATURE_DISTANCE = 10, 80
_SIDE_PX = 32
_BITS = 256
# A picture whose grey values spread less than this is a wall or a blank: its hash would be noise.
_LEAST_SPREAD = 4.0
# One band more than bits may differ: two hashes that near agree in a whole band (pigeonhole).
_BANDS = HASH_DISTANCE + 1
_BLOCK = 512


def _lowest_frequencies() -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Rows and columns of the 256 lowest frequencies of the cosine transform, without the mean, lowest first."""
    places = [(row, column) for row in range(_SIDE_PX) for column in range(_SIDE_PX) if row or column]
    places.sort(key=lambda place: (place[0] ** 2 + place[1] ** 2, place))
    rows, columns = np.array(places[:_BITS]).T
    return rows, columns


_ROWS, _COLUMNS = _lowest_frequencies()


def picture_signature(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint64] | None:
    """What is compared of a picture: signs of the 256 lowest frequencies of its grey values.

    Args:
        image_rgb: uint8 (height, width, 3); a small version will do, from about 128 pixels.

    Returns:
        uint64 (4,), of which the first is the perceptual hash; None for a flat picture, which is like any other.
    """
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    if float(small.std()) < _LEAST_SPREAD:
        return None
    bits = cv2.dct(small)[_ROWS, _COLUMNS] > 0
    return np.packbits(bits).view(np.uint64)


def near_pairs(signatures: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs of pictures that show the same photo.

    Hashes are looked up by bands, not compared each with each: those within `HASH_DISTANCE` bits agree in at least
    one of `HASH_DISTANCE + 1` bands. Equal signatures are compared as one.

    Args:
        signatures: uint64 (pictures, 4), of `picture_signature`.

    Returns:
        int64 (pairs, 2), row numbers, the smaller first. A chain through equal pictures links them all: each of them
        is paired with the first of its equals, and only that one with others.
    """
    if len(signatures) < 2:
        return np.empty((0, 2), np.int64)
    distinct, first, place = np.unique(signatures, axis=0, return_index=True, return_inverse=True)
    firsts = first[place.reshape(-1)]
    numbers = np.arange(len(signatures))
    is_copy = firsts != numbers
    found = [np.stack([firsts[is_copy], numbers[is_copy]], axis=1)]
    for left, right in _candidates(distinct[:, 0]):
        distance = np.bitwise_count(distinct[left] ^ distinct[right]).sum(axis=1, dtype=np.int64)
        near = distance <= SIGNATURE_DISTANCE
        found.append(np.sort(np.stack([first[left[near]], first[right[near]]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0).astype(np.int64)


def _candidates(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of hashes within the distance, in blocks; a pair comes once for every band it shares."""
    edges = np.linspace(0, 64, _BANDS + 1).round().astype(int)
    for low, high in pairwise(edges.tolist()):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            yield from _within(hashes, group)


def _within(
    hashes: NDArray[np.uint64], group: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The near pairs among some hashes."""
    for start in range(0, len(group), _BLOCK):
        part = group[start : start + _BLOCK]
        for other in range(start, len(group), _BLOCK):
            against = group[other : other + _BLOCK]
            is_near = np.bitwise_count(hashes[part][:, None] ^ hashes[against][None]) <= HASH_DISTANCE
            left, right = np.divmod(np.flatnonzero(is_near), len(against))
            is_pair = left < right if other == start else np.ones(len(left), np.bool_)
            if is_pair.any():
                yield part[left[is_pair]], against[right[is_pair]]
