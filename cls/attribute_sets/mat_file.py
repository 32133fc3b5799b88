"""MATLAB files of version 5 and 7 (level 5 MAT-files), decoded as The MathWorks' "MAT-File Format" describes them.

SciPy reads these files too, and was seen to end the whole process on damaged ones; sets are foreign data. Here every
size is checked against the bytes that are there. What the public sets do not hold is refused: objects, sparse matrices,
function handles.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER_BYTES = 128
_TAG_BYTES = 8
_MOST_DEPTH = 20
_MOST_BYTES = 4 << 30
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = range(6, 16)  # classes double to uint64
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "utf-8", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class BrokenFileError(Exception):
    """The bytes are not what the format says; `str` of it says why. Caught by `cls.attribute_sets.matlab`."""


@dataclass(frozen=True)
class MatArray:
    """One array of a file; of the four kinds of values one is filled, in MATLAB's order (column by column).

    Attributes:
        kind: `numbers`, `text`, `cell` or `struct`.
        shape: MATLAB's dimensions, at least two.
        numbers: of the shape.
        texts: the rows of a character array.
        cells: the values in a cell array.
        records: the elements of a structure array.
    """

    kind: str
    shape: tuple[int, ...]
    numbers: NDArray[Any] | None = field(default=None, repr=False)
    texts: tuple[str, ...] = ()
    cells: tuple[MatArray, ...] = field(default=(), repr=False)
    records: tuple[dict[str, MatArray], ...] = field(default=(), repr=False)


_EMPTY = MatArray("numbers", (0, 0), np.empty((0, 0)))


def decode_mat(content: bytes) -> dict[str, MatArray]:
    """The variables of a file, by name.

    Raises:
        BrokenFileError: the bytes are not a whole file of this format.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER_BYTES])
    if order is None:
        raise BrokenFileError("it has not the head of a MATLAB file of version 5 or 7")
    data = memoryview(content)
    position = _HEADER_BYTES
    found: dict[str, MatArray] = {}
    while position < len(data):
        kind, payload, position = _element(data, position, order)
        if kind == _COMPRESSED:
            kind, payload, _ = _element(memoryview(_inflated(payload)), 0, order)
        if kind != _MATRIX:
            raise BrokenFileError(f"an array was expected, found data of type {kind}")
        name, array = _array(payload, order, 0)
        found[name] = array
    return found


def _inflated(payload: memoryview) -> bytes:
    """The bytes of a compressed element, whole and with a right checksum."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(payload, _MOST_BYTES)
    except zlib.error as error:
        raise BrokenFileError(f"compressed data are damaged: {error}") from error
    if not inflater.eof:
        raise BrokenFileError("compressed data end too early, or are too large")
    return content


def _element(data: memoryview, position: int, order: str) -> tuple[int, memoryview, int]:
    """Type and bytes of the data element at a position, and where the next one begins."""
    if position + _TAG_BYTES > len(data):
        raise BrokenFileError("it ends in the middle of an element")
    first, size = struct.unpack_from(order + "II", data, position)
    if first >> 16:  # up to four bytes stand in the tag itself
        size, start, end = first >> 16, position + 4, position + _TAG_BYTES
        if size > 4:
            raise BrokenFileError("a small element is larger than four bytes")
        return first & 0xFFFF, data[start : start + size], end
    start = position + _TAG_BYTES
    if start + size > len(data):
        raise BrokenFileError("it ends in the middle of an element")
    padding = 0 if first == _COMPRESSED else -size % 8
    return first, data[start : start + size], min(start + size + padding, len(data))


def _array(data: memoryview, order: str, depth: int) -> tuple[str, MatArray]:
    """Name and value of an array element's bytes."""
    if not data:
        return "", _EMPTY
    if depth > _MOST_DEPTH:
        raise BrokenFileError("arrays are nested too deeply")
    kind, payload, position = _element(data, 0, order)
    if kind != 6 or len(payload) != 8:
        raise BrokenFileError("an array has no flags")
    array_class = struct.unpack_from(order + "I", payload)[0] & 0xFF
    kind, payload, position = _element(data, position, order)
    shape = tuple(int(side) for side in _numbers(kind, payload, order))
    if len(shape) < 2 or any(side < 0 for side in shape) or prod(shape) > _MOST_BYTES:
        raise BrokenFileError(f"an array has the dimensions {shape}")
    kind, payload, position = _element(data, position, order)
    name = bytes(payload).decode("latin-1")
    if array_class == _CELL:
        return name, MatArray("cell", shape, cells=tuple(_arrays(data, position, order, prod(shape), depth)))
    if array_class == _STRUCT:
        return name, MatArray("struct", shape, records=_records(data, position, order, prod(shape), depth))
    if array_class == _CHAR:
        return name, MatArray("text", shape, texts=_texts(data, position, order, shape))
    if array_class in _NUMBERS:
        kind, payload, _ = _element(data, position, order)
        numbers = _numbers(kind, payload, order)
        if len(numbers) != prod(shape):
            raise BrokenFileError(f"an array of {shape} holds {len(numbers)} numbers")
        return name, MatArray("numbers", shape, numbers.reshape(shape, order="F"))
    raise BrokenFileError(f"an array is of class {array_class}, which no public set holds")


def _numbers(kind: int, payload: memoryview, order: str) -> NDArray[Any]:
    if kind not in _DTYPES:
        raise BrokenFileError(f"numbers were expected, found data of type {kind}")
    dtype = np.dtype(order + _DTYPES[kind])
    if len(payload) % dtype.itemsize:
        raise BrokenFileError("numbers end in the middle of one")
    return np.frombuffer(payload, dtype)


def _arrays(data: memoryview, position: int, order: str, count: int, depth: int) -> list[MatArray]:
    """So many arrays, one after the other."""
    if count * _TAG_BYTES > len(data) - position:
        raise BrokenFileError(f"{count} values do not fit into {len(data) - position} bytes")
    found = []
    for _ in range(count):
        kind, payload, position = _element(data, position, order)
        if kind != _MATRIX:
            raise BrokenFileError(f"an array was expected, found data of type {kind}")
        found.append(_array(payload, order, depth + 1)[1])
    return found


def _records(data: memoryview, position: int, order: str, count: int, depth: int) -> tuple[dict[str, MatArray], ...]:
    """The elements of a structure array: width of a field's name, all names, then the values field by field."""
    kind, payload, position = _element(data, position, order)
    widths = _numbers(kind, payload, order)
    _, payload, position = _element(data, position, order)
    if len(widths) != 1 or not 0 < widths[0] <= 256 or len(payload) % int(widths[0]):
        raise BrokenFileError("a structure has no names of fields")
    width, text = int(widths[0]), bytes(payload).decode("latin-1")
    names = [text[start : start + width].partition("\0")[0] for start in range(0, len(text), width)]
    values = _arrays(data, position, order, count * len(names), depth)
    return tuple(
        dict(zip(names, values[index * len(names) : (index + 1) * len(names)], strict=True)) for index in range(count)
    )


def _texts(data: memoryview, position: int, order: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The rows of a character array; they are stored column by column."""
    if prod(shape) == 0:
        return ("",) * min(shape[0], 1)
    kind, payload, _ = _element(data, position, order)
    encoding = _ENCODINGS.get(kind)
    if encoding is None:
        raise BrokenFileError(f"a text was expected, found data of type {kind}")
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    text = bytes(payload).decode(encoding, errors="replace")
    if shape[0] == 1:
        return (text,)
    if len(text) != prod(shape) or len(shape) != 2:
        raise BrokenFileError(f"a text of {shape} holds {len(text)} signs")
    return tuple(text[row :: shape[0]] for row in range(shape[0]))
