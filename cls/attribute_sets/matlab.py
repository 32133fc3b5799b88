"""MATLAB files of versions 4 to 7: cells, structures, texts and matrices, with errors that name the field.

SciPy's `loadmat` gives every value at least two dimensions, as MATLAB has it: a structure is a 1x1 record array, a cell
an array of objects, a text an array with one string. Nothing is squeezed here, so that a set of one picture reads like
any other.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cls.errors import AttributeSetError

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BROKEN = (ValueError, TypeError, KeyError, IndexError, EOFError, OSError, struct.error, zlib.error, MemoryError)


@dataclass(frozen=True)
class MatlabValue:
    """A value in a MATLAB file.

    Attributes:
        raw: as `loadmat` gives it.
        where: file and field, for messages.
    """

    raw: Any
    where: str

    def field(self, name: str) -> MatlabValue:
        """A field of a structure.

        Raises:
            AttributeSetError: the value is no structure, or has no such field; names those it has.
        """
        raw = self._array()
        if raw.dtype.names is None or raw.size == 0:
            raise AttributeSetError("is not a structure", where=self.where)
        if name not in raw.dtype.names:
            raise AttributeSetError(
                f"has no field '{name}'", where=self.where, hint=f"its fields are: {', '.join(raw.dtype.names)}"
            )
        return MatlabValue(raw.reshape(-1)[0][name], f"{self.where}.{name}")

    def has_field(self, name: str) -> bool:
        """Whether the value is a structure with such a field."""
        return bool(name in (self._array().dtype.names or ()))

    def cells(self) -> list[MatlabValue]:
        """The values in a cell array, or the elements of a structure array, in MATLAB's order.

        Raises:
            AttributeSetError: the value is neither.
        """
        raw = self._array()
        if raw.dtype.names is not None:
            return [
                MatlabValue(raw.reshape(-1, order="F")[index : index + 1], f"{self.where}({index + 1})")
                for index in range(raw.size)
            ]
        if raw.dtype != object:
            raise AttributeSetError("is not a cell array", where=self.where)
        return [MatlabValue(item, f"{self.where}{{{n}}}") for n, item in enumerate(raw.reshape(-1, order="F"), 1)]

    def texts(self) -> list[str]:
        """The texts of a cell array, or of a character array with a text a row; of several columns the first.

        Raises:
            AttributeSetError: it holds something else.
        """
        raw = self._array()
        if raw.dtype.kind == "U":
            return [str(item).rstrip() for item in raw.reshape(-1)]
        if raw.dtype == object and raw.ndim == 2 and min(raw.shape) > 1:
            raw = raw[:, :1]
        return [value.text() for value in MatlabValue(raw, self.where).cells()]

    def text(self) -> str:
        """A single text, maybe inside a cell of its own.

        Raises:
            AttributeSetError: it is none.
        """
        raw = self._array()
        while raw.dtype == object and raw.size == 1:
            raw = np.asarray(raw.reshape(-1)[0])
        if raw.dtype.kind != "U" or raw.size > 1:
            raise AttributeSetError("is not a text", where=self.where)
        return str(raw.reshape(-1)[0]) if raw.size else ""

    def matrix(self) -> NDArray[np.float64]:
        """A matrix of numbers, float64 (rows, columns).

        Raises:
            AttributeSetError: it holds something else.
        """
        raw = self._array()
        if raw.dtype.kind not in "biuf" or raw.ndim != 2:
            raise AttributeSetError("is not a matrix of numbers", where=self.where)
        return raw.astype(np.float64)

    def indices(self, count: int) -> list[int]:
        """Positions from 0 of a vector of MATLAB's, which count from 1.

        Args:
            count: how many there are to point at.

        Raises:
            AttributeSetError: one of them points outside, or is no whole number.
        """
        numbers = self.matrix().reshape(-1)
        wrong = numbers[(numbers < 1) | (numbers > count) | (numbers != np.round(numbers))]
        if wrong.size:
            raise AttributeSetError(f"points at row {wrong[0]:g} of {count}", where=self.where)
        return [int(number) - 1 for number in numbers]

    def _array(self) -> NDArray[Any]:
        return np.asarray(self.raw)


def read_matlab(path: Path) -> dict[str, MatlabValue]:
    """The variables of a MATLAB file.

    Raises:
        AttributeSetError: it is missing, of version 7.3, broken, or none at all; says what to do.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with path.open("rb") as stream:
            head = stream.read(520)
    except OSError as error:
        raise AttributeSetError(f"cannot be read: {error.strerror}", where=path) from error
    if head.startswith(b"MATLAB 7.3") or _HDF5_SIGNATURE in head:
        raise AttributeSetError(
            "is a MATLAB file of version 7.3 (HDF5), which is not read",
            where=path,
            hint=f"convert it in MATLAB: s = load('{path.name}'); save('{path.name}', '-struct', 's', '-v7')",
        )
    try:
        variables = loadmat(path, appendmat=False)
    except (MatReadError, NotImplementedError, *_BROKEN) as error:
        raise AttributeSetError(
            f"is not a whole MATLAB file ({error})", where=path, hint="get it anew from where the set is published"
        ) from error
    return {name: MatlabValue(raw, f"{path}:{name}") for name, raw in variables.items() if not name.startswith("__")}


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
