"""The same photo is found again when it was saved, resized, cropped or brightened; others are not joined with it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.dataset.near_duplicates import HASH_DISTANCE, SIGNATURE_DISTANCE, near_pairs, picture_signature
from cls.people.photos import decode_photo
from cls.sample.make import encoded_photo
from cls.sample.plan import Plan, SampleConfig

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photos() -> list[Image]:
    """One photo of each of 20 picsets of the sample set."""
    config = SampleConfig(photos=200, seed=3, width_px=320, height_px=240)
    plan = Plan(config)
    firsts = {plan.picset_of(index): index for index in reversed(range(200))}
    indices = [firsts[picset] for picset in sorted(firsts)][:20]
    return [decode_photo(encoded_photo(config, plan, index)[0]) for index in indices]


def saved(image_rgb: Image, quality: int) -> Image:
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return decode_photo(content.tobytes())


def cropped(image_rgb: Image) -> Image:
    height_px, width_px = image_rgb.shape[:2]
    return image_rgb[round(height_px * 0.02) :, : width_px - round(width_px * 0.02)]


COPIES: dict[str, Callable[[Image], Image]] = {
    "saved again": lambda image: saved(image, 40),
    "half the size": lambda image: saved(
        np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8), 85
    ),
    "cropped": lambda image: saved(np.ascontiguousarray(cropped(image)), 85),
    "brighter": lambda image: saved(cv2.convertScaleAbs(image, alpha=1.1, beta=20).astype(np.uint8), 85),
}


def signatures(images: list[Image]) -> NDArray[np.uint64]:
    found = [picture_signature(image) for image in images]
    assert all(signature is not None for signature in found)
    return np.array(found, np.uint64)


def test_photos_of_different_picsets_are_not_joined(photos: list[Image]) -> None:
    assert not len(near_pairs(signatures(photos)))


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found(photos: list[Image], copy: str) -> None:
    some = photos[:10]
    pairs = near_pairs(signatures([*some, *(COPIES[copy](image) for image in some)]))
    assert pairs.tolist() == [[number, number + 10] for number in range(10)]


def test_flat_pictures_have_no_signature() -> None:
    assert picture_signature(np.full((80, 60, 3), 255, np.uint8)) is None
    noise = np.random.default_rng(0).integers(120, 130, (200, 200, 3), np.uint8)
    assert picture_signature(noise) is None


def test_nothing_and_one_picture_have_no_pairs() -> None:
    assert near_pairs(np.empty((0, 4), np.uint64)).shape == (0, 2)
    assert near_pairs(np.ones((1, 4), np.uint64)).shape == (0, 2)


def test_equal_pictures_are_paired_with_their_first() -> None:
    rows = np.array([[1, 2, 3, 4], [9, 9, 9, 9 << 40], [1, 2, 3, 4], [1, 2, 3, 4]], np.uint64)
    rows[1] = ~rows[1]
    assert near_pairs(rows).tolist() == [[0, 2], [0, 3]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60))
def test_the_bands_find_what_comparing_all_finds(seed: int, count: int) -> None:
    """Random signatures with neighbours at distances around the limits."""
    rng = np.random.default_rng(seed)
    bits = rng.random((count, 256)) < 0.5
    for row in range(1, count):
        if rng.random() < 0.6:
            bits[row] = bits[rng.integers(row)]
            bits[row, rng.choice(64, rng.integers(0, 16), replace=False)] ^= True
            bits[row, 64 + rng.choice(192, rng.integers(0, 90), replace=False)] ^= True
    rows = np.packbits(bits, axis=1).view(np.uint64)
    distances = (bits[:, None] ^ bits[None]).sum(axis=2)
    hashes = (bits[:, None, :64] ^ bits[None, :, :64]).sum(axis=2)
    is_near = np.triu((distances <= SIGNATURE_DISTANCE) & (hashes <= HASH_DISTANCE), 1)
    assert len(np.unique(bits, axis=0)) < count or near_pairs(rows).tolist() == np.argwhere(is_near).tolist()
