"""Values of a MATLAB file by name: cells, structures, texts and matrices, with errors that name file and field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.attribute_sets.mat_file import BrokenFileError, MatArray, decode_mat
from cls.errors import AttributeSetError

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class MatlabValue:
    """A value in a MATLAB file.

    Attributes:
        array: as it was decoded.
        where: file and field, for messages.
    """

    array: MatArray
    where: str

    def field(self, name: str) -> MatlabValue:
        """A field of a structure.

        Raises:
            AttributeSetError: the value is no structure, or has no such field; names those it has.
        """
        if len(self.array.records) != 1:
            raise AttributeSetError("is not a structure", where=self.where)
        record = self.array.records[0]
        if name not in record:
            raise AttributeSetError(
                f"has no field '{name}'", where=self.where, hint=f"its fields are: {', '.join(record)}"
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
            raise AttributeSetError("is not a cell array", where=self.where)
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
            raise AttributeSetError("is not a text", where=self.where)
        return array.texts[0] if array.texts else ""

    def matrix(self) -> NDArray[np.float64]:
        """A matrix of numbers, float64 (rows, columns).

        Raises:
            AttributeSetError: it holds something else.
        """
        numbers = self.array.numbers
        if numbers is None or numbers.ndim != 2:
            raise AttributeSetError("is not a matrix of numbers", where=self.where)
        return numbers.astype(np.float64)

    def indices(self, count: int) -> list[int]:
        """Positions from 0 of a vector of MATLAB's, which count from 1.

        Args:
            count: how many there are to point at.

        Raises:
            AttributeSetError: one of them points outside, or is no whole number.
        """
        numbers = self.matrix().reshape(-1)
        is_right = (numbers >= 1) & (numbers <= count) & (numbers == np.round(numbers))
        if not is_right.all():
            raise AttributeSetError(f"points at row {numbers[~is_right][0]:g} of {count}", where=self.where)
        return [int(number) - 1 for number in numbers]


def read_matlab(path: Path) -> dict[str, MatlabValue]:
    """The variables of a MATLAB file.

    Raises:
        AttributeSetError: it is missing, of version 7.3, broken, or none at all; says what to do.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AttributeSetError(f"cannot be read: {error.strerror}", where=path) from error
    if content.startswith(b"MATLAB 7.3") or _HDF5_SIGNATURE in content[:520]:
        raise AttributeSetError(
            "is a MATLAB file of version 7.3 (HDF5), which is not read",
            where=path,
            hint=f"convert it in MATLAB: s = load('{path.name}'); save('{path.name}', '-struct', 's', '-v7')",
        )
    try:
        variables = decode_mat(content)
    except BrokenFileError as error:
        raise AttributeSetError(
            f"is not a whole MATLAB file: {error}", where=path, hint="get it anew from where the set is published"
        ) from error
    return {name: MatlabValue(array, f"{path}:{name}") for name, array in variables.items()}


def variable(variables: dict[str, MatlabValue], name: str, path: Path) -> MatlabValue:
    """One variable of a file.

    Raises:
        AttributeSetError: there is none of that name; names those there are.
    """
    if name not in variables:
        raise AttributeSetError(
            f"has no variable '{name}'", where=path, hint=f"its variables are: {', '.join(variables) or 'none'}"
        )
    return variables[name]
