"""The wire format of inference requests and answers."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cls.model_storage.inference.tensors import (
    DATATYPE_NAMES,
    NUMPY_TYPES,
    InferenceRequest,
    ProtocolError,
    WantedOutput,
    build_answer,
    parse_request,
)


def header(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "shape": [1, 2], "datatype": "FP32", "data": [1, 2], **changes}]}


@given(
    st.sampled_from(sorted(NUMPY_TYPES)).flatmap(
        lambda name: st.tuples(st.just(name), hnp.arrays(NUMPY_TYPES[name], hnp.array_shapes(max_dims=4, min_side=0)))
    ),
    st.booleans(),
)
def test_what_is_written_is_read(case: tuple[str, np.ndarray[Any, Any]], is_binary: bool) -> None:
    datatype, array = case
    if not is_binary and array.dtype.kind == "f" and not np.isfinite(array).all():
        return
    request = InferenceRequest("an id", {}, (WantedOutput("logits", is_binary),), is_binary=False)
    body, json_length = build_answer("m", 1, request, {"logits": array})
    answer = json.loads(body[:json_length])
    assert answer["id"] == "an id"
    answer["inputs"] = answer.pop("outputs")
    content = json.dumps(answer).encode()
    raw = b"" if json_length is None else body[json_length:]
    read = parse_request(content + raw, str(len(content)) if is_binary else None)
    assert DATATYPE_NAMES[read.inputs["logits"].dtype] == datatype
    np.testing.assert_array_equal(read.inputs["logits"], array)


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5), st.integers(-5, 300).map(str)))
def test_noise_is_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(ProtocolError):
        parse_request(body, length)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size"]),
                inner,
                max_size=6,
            )
        ),
        max_leaves=12,
    )
)
def test_odd_json_is_refused_or_read(item: Any) -> None:
    with suppress(ProtocolError):
        parse_request(json.dumps({"inputs": [item], "outputs": [item]}).encode(), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [1, -2]}, "shape"),
        ({"shape": [1, True]}, "shape"),
        ({"shape": [1, 3]}, "unexpected elements count 2, expected 3"),
        ({"datatype": "BYTES"}, "datatype 'BYTES'"),
        ({"datatype": ["FP32"]}, "datatype"),
        ({"data": ["x", "y"]}, "could not convert"),
        ({"data": [[1], [2, 3]]}, "images"),
        ({"data": None}, "expected an array"),
        ({"parameters": {"binary_data_size": 4}}, "Expected 8, got 4"),
        ({"parameters": {"binary_data_size": 8}}, "missing 8 bytes"),
        ({"parameters": {"shared_memory_region": "x"}}, "shared memory"),
        ({"parameters": 3}, "parameters"),
        ({"name": 3}, "name"),
    ],
)
def test_wrong_inputs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parse_request(json.dumps(header(**changes)).encode(), None)


def test_outputs_that_are_no_list_are_refused() -> None:
    with pytest.raises(ProtocolError, match="outputs"):
        parse_request(json.dumps({**header(), "outputs": 3}).encode(), None)


def test_bytes_nobody_announced_are_refused() -> None:
    content = json.dumps(header()).encode()
    with pytest.raises(ProtocolError, match="additional input data of 3 bytes"):
        parse_request(content + b"abc", str(len(content)))


def test_json_holds_no_infinity() -> None:
    request = InferenceRequest("", {}, None, is_binary=False)
    with pytest.raises(ProtocolError, match="finite"):
        build_answer("m", 1, request, {"logits": np.array([np.inf], np.float32)})
