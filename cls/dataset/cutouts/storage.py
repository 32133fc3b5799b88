"""How a person is stored in the cache: raw pixels, a JPEG with a packed mask, or lossless PNGs."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

STORAGES = ("raw", "jpeg", "png")
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 4)
_BOX_BYTES = 8
# Of compressed records: lengths of three parts, the box, where the photo is in the frame.
_LENGTHS_BYTES = 12
_TAIL_BYTES = 2 * _BOX_BYTES
_HEAD_BYTES = _LENGTHS_BYTES + _TAIL_BYTES
Shape = tuple[int, int, int]


class StoredPerson(NamedTuple):
    """One person.

    Attributes:
        wide: uint8 (height, width, 4), picture and mask.
        exact: uint8 (height, width, 3).
        box_xyxy_px: what matters in `wide`; outside, the mask is 0.
        photo_xyxy_px: where in `wide` the photo is; around it are borders of one colour, where the mask is 0.
    """

    wide: NDArray[np.uint8]
    exact: NDArray[np.uint8]
    box_xyxy_px: tuple[int, int, int, int]
    photo_xyxy_px: tuple[int, int, int, int]


def pack(person: StoredPerson, storage: str) -> NDArray[np.uint8]:
    """A person as the bytes of one record, uint8 (bytes,).

    Raw: pixels of `wide`, of `exact`, both boxes. Else: a head, then picture and mask of `wide` without its borders,
    and `exact`; only the picture of `jpeg` loses anything.
    """
    box = np.array(person.box_xyxy_px, np.int16).view(np.uint8)
    place = np.array(person.photo_xyxy_px, np.int16).view(np.uint8)
    if storage == "raw":
        return np.concatenate([person.wide.reshape(-1), person.exact.reshape(-1), box, place])
    suffix, options = (".jpg", _JPEG) if storage == "jpeg" else (".png", _PNG)
    left, top, right, bottom = person.photo_xyxy_px
    photo = np.ascontiguousarray(person.wide[top:bottom, left:right])
    parts = [
        cv2.imencode(suffix, cv2.cvtColor(photo, cv2.COLOR_RGBA2BGR), options)[1],
        np.frombuffer(zlib.compress(np.ascontiguousarray(photo[..., 3]).data, 6), np.uint8),
        cv2.imencode(".png", cv2.cvtColor(person.exact, cv2.COLOR_RGB2BGR), _PNG)[1],
    ]
    lengths = np.array([len(part) for part in parts], np.uint32).view(np.uint8)
    return np.concatenate([lengths, box, place, *(np.asarray(part, np.uint8).reshape(-1) for part in parts)])


def wide_of(record: NDArray[np.uint8], storage: str, shape: Shape, fill_rgb: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The `wide` picture of a record, uint8 `shape`, with borders of a colour; a view of a raw one."""
    if storage == "raw":
        return record[: int(np.prod(shape))].reshape(shape)
    image, mask, _ = _parts(record)
    left, top, right, bottom = photo_box_of(record, storage)
    photo = np.asarray(cv2.cvtColor(_decoded(image), cv2.COLOR_RGB2RGBA), np.uint8)
    cv2.insertChannel(np.frombuffer(zlib.decompress(mask.data), np.uint8).reshape(photo.shape[:2]), photo, 3)
    return np.asarray(
        cv2.copyMakeBorder(
            photo, top, shape[0] - bottom, left, shape[1] - right, cv2.BORDER_CONSTANT,
            value=(*map(float, fill_rgb), 0.0),
        ),
        np.uint8,
    )  # fmt: skip


def exact_of(record: NDArray[np.uint8], storage: str, shape: Shape) -> NDArray[np.uint8]:
    """The `exact` picture of a record, uint8 `shape`; a view of a raw one."""
    if storage == "raw":
        return record[-_TAIL_BYTES - int(np.prod(shape)) : -_TAIL_BYTES].reshape(shape)
    return _decoded(_parts(record)[2])


def box_of(record: NDArray[np.uint8], storage: str) -> tuple[int, int, int, int]:
    """The box of a record: left, top, right, bottom."""
    return _box_at(record, len(record) - _TAIL_BYTES if storage == "raw" else _LENGTHS_BYTES)


def photo_box_of(record: NDArray[np.uint8], storage: str) -> tuple[int, int, int, int]:
    """Where the photo is in the `wide` picture of a record: left, top, right, bottom."""
    return _box_at(record, len(record) - _BOX_BYTES if storage == "raw" else _LENGTHS_BYTES + _BOX_BYTES)


def _box_at(record: NDArray[np.uint8], start: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = record[start : start + _BOX_BYTES].copy().view(np.int16).tolist()
    return left, top, right, bottom


def _parts(record: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    lengths = record[:_LENGTHS_BYTES].copy().view(np.uint32).astype(np.int64)
    return np.split(record[_HEAD_BYTES:], np.cumsum(lengths)[:2])


def _decoded(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)
