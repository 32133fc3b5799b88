"""Which part of a dataset a picture belongs to: decided by the picture alone, so that it never changes its part."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

TRAIN, VAL = "train", "val"
PARTS = (TRAIN, VAL)
_LOOK = "look "
_NEARLY_EQUAL_BITS = 6


def key_of_picset(picset: str) -> str:
    """What decides about every picture of a picset."""
    return f"picset {picset}"


def key_of_picture(picset: str, image_rgb: NDArray[np.uint8]) -> str:
    """What decides about a picture: its picset, or its look where the picset is unknown.

    The look is a difference hash: 64 comparisons of neighbouring brightnesses on a 9x8 thumbnail. Copies of a picture
    that were scaled or compressed again, and neighbours in a burst, differ in a few of them; see `Looks`.
    """
    if picset:
        return key_of_picset(picset)
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    return f"{_LOOK}{bits.tobytes().hex()}"


class Looks:
    """The looks met so far: finds the one a new look is nearly equal to."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.uint64)

    def settle(self, key: str) -> str:
        """The key of the first look met that differs from this one in at most 6 of 64 places; other keys as they are.

        Args:
            key: from `key_of_picture`.
        """
        if not key.startswith(_LOOK):
            return key
        look = np.uint64(int(key.removeprefix(_LOOK), 16))
        distances = np.bitwise_count(self._hashes ^ look)
        if distances.size and distances.min() <= _NEARLY_EQUAL_BITS:
            return f"{_LOOK}{int(self._hashes[distances.argmin()]):016x}"
        self._hashes = np.append(self._hashes, look)
        return key


def part_of_key(key: str, *, val_share: float) -> str:
    """`train` or `val`: a number drawn from the key's digest, compared with the share.

    Args:
        key: from `key_of_picture`.
        val_share: fraction of all keys that is kept for validation, 0 to 1.
    """
    return VAL if drawn_number(key) < val_share else TRAIN


def drawn_number(key: str) -> float:
    """A number from 0 to 1 that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
