"""The decoder of MATLAB files, held to what SciPy writes."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from cls.attribute_sets.matlab import BrokenFileError, MatArray, decode_mat

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=12)
NUMBERS = st.builds(
    lambda rows, columns, dtype, seed: np.random.default_rng(seed).integers(0, 100, (rows, columns)).astype(dtype),
    st.integers(1, 4), st.integers(1, 5),
    st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8", "?"]),
    st.integers(0, 99),
)  # fmt: skip
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
VALUES = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: st.lists(inner, min_size=1, max_size=4) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=12,
)


def as_matlab(value: Any) -> Any:
    """Lists become cell arrays of one column."""
    if isinstance(value, list):
        array = np.empty((len(value), 1), object)
        array[:, 0] = [np.array(item) if isinstance(item, str) else as_matlab(item) for item in value]
        return array
    return {name: as_matlab(item) for name, item in value.items()} if isinstance(value, dict) else value


def written(value: Any, *, is_compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    savemat(stream, {"value": as_matlab(value)}, do_compression=is_compressed)
    return stream.getvalue()


def back(array: MatArray) -> Any:
    if array.kind == "cell":
        return [back(item) for item in array.cells]
    if array.kind == "struct":
        (record,) = array.records
        return {name: back(item) for name, item in record.items()}
    if array.kind == "text":
        (text,) = array.texts
        return text
    assert array.numbers is not None
    return array.numbers.tolist()


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


@settings(max_examples=80, deadline=None)
@given(value=VALUES, is_compressed=st.booleans())
def test_what_scipy_writes_is_read(value: Any, is_compressed: bool) -> None:
    assert back(decode_mat(written(value, is_compressed=is_compressed))["value"]) == plain(value)


def test_a_character_array_of_several_rows() -> None:
    stream = io.BytesIO()
    savemat(stream, {"names": np.array(["Hat  ", "Boots"])})
    assert decode_mat(stream.getvalue())["names"].texts == ("Hat  ", "Boots")


def test_empty_values() -> None:
    stream = io.BytesIO()
    savemat(stream, {"a": np.empty((0, 3)), "b": np.empty((0, 1), object), "c": ""})
    found = decode_mat(stream.getvalue())
    assert found["a"].shape == (0, 3)
    assert found["b"].cells == ()
    assert found["c"].texts in ((), ("",))


def test_a_file_of_the_other_byte_order() -> None:
    """As MATLAB wrote it on big-endian machines: one matrix of int16."""

    def element(kind: int, payload: bytes) -> bytes:
        return struct.pack(">II", kind, len(payload)) + payload + b"\0" * (-len(payload) % 8)

    parts = [
        element(6, struct.pack(">II", 10, 0)), element(5, struct.pack(">ii", 1, 3)), element(1, b"labels"),
        element(3, struct.pack(">3h", 1, 0, 256)),
    ]  # fmt: skip
    content = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI" + element(14, b"".join(parts))
    numbers = decode_mat(content)["labels"].numbers
    assert numbers is not None
    assert numbers.tolist() == [[1, 0, 256]]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), is_compressed=st.booleans())
def test_damaged_bytes_are_read_or_refused(data: st.DataObject, is_compressed: bool) -> None:
    value = {"name": ["a.png", "b.png"], "data": np.arange(6).reshape(2, 3), "parts": [{"train": np.ones((2, 1))}]}
    content = bytearray(written(value, is_compressed=is_compressed))
    for position, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        content[position] = byte
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        with suppress(BrokenFileError):
            decode_mat(damaged)


@pytest.mark.parametrize(
    ("value", "message"), [(np.array([[1 + 2j]]), None), ("sparse", "class 5, which no public set holds")]
)
def test_kinds_that_sets_do_not_hold(value: Any, message: str | None) -> None:
    from scipy.sparse import csc_array

    stream = io.BytesIO()
    savemat(stream, {"value": csc_array(np.eye(3)) if isinstance(value, str) else value})
    if message is None:
        numbers = decode_mat(stream.getvalue())["value"].numbers
        assert numbers is not None
        assert numbers.tolist() == [[1]]  # the real part
    else:
        with pytest.raises(BrokenFileError, match=message):
            decode_mat(stream.getvalue())
