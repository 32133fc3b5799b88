"""Values of a MATLAB file by name: cells, structures, texts and matrices, with errors that name file and field."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import AttributeSetError

_HEADER_BYTES = 128
_TAG_BYTES = 8
_MOST_DEPTH = 20
_MOST_BYTES = 4 << 30
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = range(6, 16)  # classes double to uint64
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "utf-8", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class BrokenFileError(Exception):
    """The bytes are not what the format says; `str` of it says why. Caught by `cls.attribute_sets.matlab`."""


@dataclass(frozen=True)
class MatArray:
    """One array of a file; of the four kinds of values one is filled, in MATLAB's order (column by column).

    Attributes:
        kind: `numbers`, `text`, `cell` or `struct`.
        shape: MATLAB's dimensions, at least two.
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
    """The variables of a file, by name."""
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


@dataclass(frozen=True)
class MatlabValue:
    """A value in a MATLAB file."""

    array: MatArray
    where: str

    def field(self, name: str) -> MatlabValue:
        """A field of a structure.

        Raises:
            AttributeSetError: the value is no structure, or has no such field; names those it has.
        """
        if len(self.array.records) != 1:
            raise AttributeSetError("is not a structure", code="not_a_structure", where=self.where)
        record = self.array.records[0]
        if name not in record:
            raise AttributeSetError(
                f"has no field '{name}'",
                code="missing_field",
                where=self.where,
                hint=f"its fields are: {', '.join(record)}",
            )
        return MatlabValue(record[name], f"{self.where}.{name}")

    def has_field(self, name: str) -> bool:
        """Whether the value is a structure with such a field."""
        return any(name in record for record in self.array.records)

    def cells(self) -> list[MatlabValue]:
        """The values in a cell array, or the elements of a structure array, in MATLAB's order.

        Raises:
            AttributeSetError: the value is neither.
        """
        if self.array.kind == "struct":
            records = [MatArray("struct", (1, 1), records=(record,)) for record in self.array.records]
            return [MatlabValue(record, f"{self.where}({number})") for number, record in enumerate(records, 1)]
        if self.array.kind != "cell":
            raise AttributeSetError("is not a cell array", code="not_a_cell_array", where=self.where)
        return [MatlabValue(value, f"{self.where}{{{number}}}") for number, value in enumerate(self.array.cells, 1)]

    def texts(self) -> list[str]:
        """The texts of a cell array, or of a character array with a text a row; of several columns the first.

        Raises:
            AttributeSetError: it holds something else.
        """
        if self.array.kind == "text":
            return [text.rstrip() for text in self.array.texts]
        cells = self.cells()
        if min(self.array.shape) > 1:
            cells = cells[: self.array.shape[0]]
        return [value.text() for value in cells]

    def text(self) -> str:
        """A single text, maybe inside a cell of its own.

        Raises:
            AttributeSetError: it is none.
        """
        array = self.array
        while array.kind == "cell" and len(array.cells) == 1:
            array = array.cells[0]
        if array.kind != "text" or len(array.texts) > 1:
            raise AttributeSetError("is not a text", code="not_a_text", where=self.where)
        return array.texts[0] if array.texts else ""

    def matrix(self) -> NDArray[np.float64]:
        """A matrix of numbers, float64 (rows, columns).

        Raises:
            AttributeSetError: it holds something else.
        """
        numbers = self.array.numbers
        if numbers is None or numbers.ndim != 2:
            raise AttributeSetError("is not a matrix of numbers", code="not_a_matrix", where=self.where)
        return numbers.astype(np.float64)

    def indices(self, count: int) -> list[int]:
        """Positions from 0 of a vector of MATLAB's, which count from 1.

        Raises:
            AttributeSetError: one of them points outside, or is no whole number.
        """
        numbers = self.matrix().reshape(-1)
        is_right = (numbers >= 1) & (numbers <= count) & (numbers == np.round(numbers))
        if not is_right.all():
            raise AttributeSetError(
                f"points at row {numbers[~is_right][0]:g} of {count}", code="index_out_of_range", where=self.where
            )
        return [int(number) - 1 for number in numbers]


def read_matlab(path: Path) -> dict[str, MatlabValue]:
    """The variables of a MATLAB file.

    Raises:
        AttributeSetError: it is missing, of version 7.3, broken, or none at all; says what to do.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AttributeSetError(f"cannot be read: {error.strerror}", code="unreadable", where=path) from error
    if content.startswith(b"MATLAB 7.3") or _HDF5_SIGNATURE in content[:520]:
        raise AttributeSetError(
            "is a MATLAB file of version 7.3 (HDF5), which is not read",
            code="unsupported_version",
            where=path,
            hint=f"convert it in MATLAB: s = load('{path.name}'); save('{path.name}', '-struct', 's', '-v7')",
        )
    try:
        variables = decode_mat(content)
    except BrokenFileError as error:
        raise AttributeSetError(
            f"is not a whole MATLAB file: {error}",
            code="damaged",
            where=path,
            hint="get it again from where the set is published",
        ) from error
    return {name: MatlabValue(array, f"{path}:{name}") for name, array in variables.items()}


def variable(variables: dict[str, MatlabValue], name: str, path: Path) -> MatlabValue:
    """One variable of a file.

    Raises:
        AttributeSetError: there is none of that name; names those there are.
    """
    if name not in variables:
        raise AttributeSetError(
            f"has no variable '{name}'",
            code="missing_variable",
            where=path,
            hint=f"its variables are: {', '.join(variables) or 'none'}",
        )
    return variables[name]
