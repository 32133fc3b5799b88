"""Inference requests and answers on the wire: JSON, with tensors inside it or as raw bytes after it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cls.model_storage.inference.sessions import NUMPY_TYPES

HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPE_NAMES = {np.dtype(numpy_type): name for name, numpy_type in NUMPY_TYPES.items()}


class ProtocolError(Exception):
    """A request that the Open Inference Protocol answers with `{"error": ...}`.

    Args:
        status: HTTP status.
        message: the error's text, worded as Triton words it where Triton has the same error.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class WantedOutput:
    """An output a request asks for."""

    name: str
    is_binary: bool


@dataclass(frozen=True)
class InferenceRequest:
    """A parsed request.

    Attributes:
        request_id: given back in the answer; may be empty.
        inputs: name -> array in the shape and type the request declared.
        outputs: what is asked for; None for everything.
        is_binary: whether outputs not named are given as raw bytes.
    """

    request_id: str
    inputs: dict[str, NDArray[Any]]
    outputs: tuple[WantedOutput, ...] | None
    is_binary: bool
    datatypes: dict[str, str] = field(default_factory=dict)


def parse_request(body: bytes, header_length: str | None) -> InferenceRequest:
    """Reads the body of an inference request.

    Args:
        body: JSON, followed by raw little-endian tensors in the order of the inputs that announce them.
        header_length: value of the HTTP header that says where the JSON ends; None when it is all JSON.

    Raises:
        ProtocolError: 400, the body does not keep the protocol.
    """
    json_length = len(body) if header_length is None else _length(header_length, len(body))
    try:
        header = json.loads(body[:json_length])
    except (ValueError, RecursionError) as error:
        raise ProtocolError(400, f"failed to parse the request JSON buffer: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("inputs"), list):
        raise ProtocolError(400, "Unable to parse 'inputs': attempt to access non-existing array in the request")
    parameters = _parameters(header)
    offset = json_length
    inputs: dict[str, NDArray[Any]] = {}
    datatypes: dict[str, str] = {}
    for item in header["inputs"]:
        name, datatype, shape = _declared(item)
        if name in inputs:
            raise ProtocolError(400, f"input '{name}' already exists in request")
        size = _parameters(item).get("binary_data_size")
        if size is None:
            inputs[name] = _array_of_json(name, datatype, shape, item)
        else:
            inputs[name] = array_of_bytes(name, datatype, shape, body, offset, size)
            offset += size
        datatypes[name] = datatype
    if offset != len(body):
        raise ProtocolError(400, f"unexpected additional input data of {len(body) - offset} bytes after the inputs")
    is_binary = parameters.get("binary_data_output") is True
    outputs = header.get("outputs")
    wanted = None if not outputs else tuple(_wanted(item, is_binary) for item in outputs)
    return InferenceRequest(str(header.get("id", "")), inputs, wanted, is_binary, datatypes)


def build_answer(
    model: str, version: int, request: InferenceRequest, outputs: Mapping[str, NDArray[Any]]
) -> tuple[bytes, int | None]:
    """The body of an inference answer.

    Args:
        model: model name.
        version: version folder.
        request: what was asked.
        outputs: every output by name.

    Returns:
        The body, and the length of its JSON when raw tensors follow.

    Raises:
        ProtocolError: 400, a number that JSON cannot hold was asked for as JSON.
    """
    wanted = request.outputs or tuple(WantedOutput(name, request.is_binary) for name in outputs)
    entries: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output in wanted:
        array = np.ascontiguousarray(outputs[output.name])
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": DATATYPE_NAMES[array.dtype],
            "shape": list(array.shape),
        }
        if output.is_binary:
            raw.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        entries.append(entry)
    answer: dict[str, Any] = {"model_name": model, "model_version": str(version), "outputs": entries}
    if request.request_id:
        answer["id"] = request.request_id
    try:
        header = json.dumps(answer, allow_nan=False).encode()
    except ValueError as error:
        raise ProtocolError(
            400, "an output is not a finite number, which JSON cannot hold: ask for binary data"
        ) from error
    return (b"".join((header, *raw)), len(header)) if raw else (header, None)


def _length(text: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > limit:
        raise ProtocolError(400, f"'{HEADER_LENGTH}' must be a length within the request body, got {text[:40]!r}")
    return int(text)


def _parameters(item: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ProtocolError(400, "Unable to parse 'parameters': expected an object")
    return parameters


def _declared(item: Any) -> tuple[str, str, tuple[int, ...]]:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ProtocolError(400, "Unable to parse 'name': every input needs one")
    name, datatype, shape = item["name"], item.get("datatype"), item.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ProtocolError(400, f"Unable to parse 'shape' of input '{name}': expected an array of sizes")
    if datatype not in NUMPY_TYPES:
        raise ProtocolError(400, f"input '{name}' has datatype {datatype!r}; served are {', '.join(NUMPY_TYPES)}")
    if any(key.startswith("shared_memory") for key in _parameters(item)):
        raise ProtocolError(400, f"input '{name}' is in shared memory, which is not supported here")
    return name, datatype, tuple(shape)


def _array_of_json(name: str, datatype: str, shape: tuple[int, ...], item: Mapping[str, Any]) -> NDArray[Any]:
    data = item.get("data")
    if not isinstance(data, list):
        raise ProtocolError(400, f"Unable to parse 'data' of input '{name}': expected an array")
    try:
        array: NDArray[Any] = np.asarray(data, dtype=NUMPY_TYPES[datatype])
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(400, f"Unable to parse 'data' of input '{name}': {error}") from error
    if array.size != math.prod(shape):
        raise ProtocolError(
            400, f"input '{name}' got unexpected elements count {array.size}, expected {math.prod(shape)}"
        )
    return array.reshape(shape)


def array_of_bytes(
    name: str, datatype: str, shape: tuple[int, ...], body: bytes, offset: int, size: Any
) -> NDArray[Any]:
    """A tensor out of raw little-endian bytes that start at an offset.

    Raises:
        ProtocolError: 400, the bytes are not as many as the tensor needs.
    """
    numpy_type = np.dtype(NUMPY_TYPES[datatype]).newbyteorder("<")
    expected = math.prod(shape) * numpy_type.itemsize
    if type(size) is not int or size != expected:
        raise ProtocolError(400, f"input byte size mismatch for input '{name}'. Expected {expected}, got {size}")
    if offset + size > len(body):
        raise ProtocolError(400, f"unexpected size for input '{name}', missing {offset + size - len(body)} bytes")
    return np.frombuffer(body, numpy_type, math.prod(shape), offset).reshape(shape)


def _wanted(item: Any, is_binary: bool) -> WantedOutput:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ProtocolError(400, "Unable to parse 'name': every output needs one")
    parameters = _parameters(item)
    unsupported: Sequence[str] = [
        key for key in parameters if key == "classification" or key.startswith("shared_memory")
    ]
    if unsupported:
        raise ProtocolError(400, f"output '{item['name']}': {unsupported[0]} is not supported here")
    return WantedOutput(item["name"], parameters.get("binary_data", is_binary) is True)
