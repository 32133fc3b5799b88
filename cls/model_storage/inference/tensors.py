"""Inference requests and answers on the wire: JSON with tensors inside it or as raw bytes after it, and gRPC."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from cls.model_storage.names import RefusedError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    # The message types are generated code without annotations.
    Message = Any

# Name in ONNX Runtime -> name in the Open Inference Protocol, NumPy type.
_TYPES: dict[str, tuple[str, type[np.generic]]] = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(double)": ("FP64", np.float64),
    "tensor(bool)": ("BOOL", np.bool_),
    **{f"tensor(int{bits})": (f"INT{bits}", np.dtype(f"int{bits}").type) for bits in (8, 16, 32, 64)},
    **{f"tensor(uint{bits})": (f"UINT{bits}", np.dtype(f"uint{bits}").type) for bits in (8, 16, 32, 64)},
}
NUMPY_TYPES: dict[str, type[np.generic]] = dict(_TYPES.values())

# The field of InferTensorContents that holds numbers of a type; FP16 has none and comes as raw bytes.
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPE_NAMES = {np.dtype(numpy_type): name for name, numpy_type in NUMPY_TYPES.items()}


def open_session(path: Path) -> InferenceSession:
    """Opens an ONNX model on the CPU.

    Raises:
        RefusedError: 422, ONNX Runtime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Waiting threads that spin would take the cores of whatever else runs on the storage host.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime raises classes of its own without a common root, for whatever a foreign file holds.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # Its messages name paths of this host, which are of no use to the sender.
        reason = reason.replace(f"{path.parent}/", "")[:300]
        raise RefusedError(422, f"{path.name} does not load in ONNX Runtime: {reason}", code="invalid_model") from error


def datatype_of(onnx_type: str) -> str:
    """`tensor(float)` -> `FP32`.

    Raises:
        RefusedError: 422, tensors of this type are not served.
    """
    if onnx_type not in _TYPES:
        raise RefusedError(
            422, f"tensors of type {onnx_type} are not served by the embedded engine", code="unsupported_tensor_type"
        )
    return _TYPES[onnx_type][0]


def batch_of_zeros(session: InferenceSession, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Zeros of a shape, in the type the input of this name takes."""
    onnx_type = next(item.type for item in session.get_inputs() if item.name == name)
    return np.zeros(shape, NUMPY_TYPES[datatype_of(onnx_type)])


def parse_message(message: Message) -> InferenceRequest:
    """Reads a ModelInferRequest.

    Raises:
        ProtocolError: 400, the message does not keep the protocol.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise ProtocolError(400, f"expected {len(message.inputs)} raw_input_contents, one an input, but got {len(raw)}")
    inputs: dict[str, NDArray[Any]] = {}
    for number, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise ProtocolError(400, f"input '{tensor.name}' already exists in request")
        shape = _shape_of(tensor)
        _refuse_unsupported(f"input '{tensor.name}'", tensor.parameters)
        if raw:
            if tensor.HasField("contents"):
                raise ProtocolError(400, f"input '{tensor.name}' has contents and raw_input_contents: send one of them")
            content = raw[number]
            inputs[tensor.name] = _array_of_bytes(tensor.name, tensor.datatype, shape, content, len(content))
        elif tensor.datatype not in _CONTENTS:
            raise ProtocolError(400, f"input '{tensor.name}' of type {tensor.datatype} must come in raw_input_contents")
        else:
            numbers = getattr(tensor.contents, _CONTENTS[tensor.datatype])
            inputs[tensor.name] = _array_of_numbers(tensor.name, tensor.datatype, shape, numbers)
    for output in message.outputs:
        _refuse_unsupported(f"output '{output.name}'", output.parameters)
    outputs = tuple(WantedOutput(output.name, True) for output in message.outputs)
    return InferenceRequest(message.id, inputs, outputs or None, is_binary=True)


def build_message(model: str, version: int, request: InferenceRequest, outputs: Mapping[str, NDArray[Any]]) -> Message:
    """The ModelInferResponse of outputs, all of them as raw bytes, in the order of the request."""
    from tritonclient.grpc import service_pb2 as pb

    answer = pb.ModelInferResponse(model_name=model, model_version=str(version), id=request.request_id)
    for name in [output.name for output in request.outputs] if request.outputs else outputs:
        array = np.ascontiguousarray(outputs[name])
        answer.outputs.add(name=name, datatype=DATATYPE_NAMES[array.dtype], shape=array.shape)
        answer.raw_output_contents.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return answer


def _shape_of(tensor: Message) -> tuple[int, ...]:
    if tensor.datatype not in NUMPY_TYPES:
        raise ProtocolError(
            400, f"input '{tensor.name}' has datatype {tensor.datatype!r}; served are {', '.join(NUMPY_TYPES)}"
        )
    shape = tuple(tensor.shape)
    if any(size < 0 for size in shape):
        raise ProtocolError(400, f"Unable to parse 'shape' of input '{tensor.name}': expected sizes, got {list(shape)}")
    return shape


def _refuse_unsupported(what: str, parameters: Iterable[str]) -> None:
    for key in parameters:
        if key.startswith("shared_memory"):
            raise ProtocolError(400, f"{what} is in shared memory, which is not supported here")
        if key == "classification":
            raise ProtocolError(400, f"{what}: classification is not supported here")


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
    is_binary = _parameters_of(header).get("binary_data_output") is True
    offset = json_length
    inputs: dict[str, NDArray[Any]] = {}
    for item in header["inputs"]:
        name, datatype, shape = _declared_input(item)
        if name in inputs:
            raise ProtocolError(400, f"input '{name}' already exists in request")
        size = _parameters_of(item).get("binary_data_size")
        if size is not None:
            inputs[name] = _array_of_bytes(name, datatype, shape, memoryview(body)[offset:], size)
            offset += size
        elif isinstance(item.get("data"), list):
            inputs[name] = _array_of_numbers(name, datatype, shape, item["data"])
        else:
            raise ProtocolError(400, f"Unable to parse 'data' of input '{name}': expected an array")
    if offset != len(body):
        raise ProtocolError(400, f"unexpected additional input data of {len(body) - offset} bytes after the inputs")
    outputs = header.get("outputs") or []
    if not isinstance(outputs, list):
        raise ProtocolError(400, "Unable to parse 'outputs': expected an array")
    wanted = tuple(_wanted(item, is_binary) for item in outputs)
    return InferenceRequest(str(header.get("id", "")), inputs, wanted or None, is_binary)


class _OutputJson(TypedDict):
    name: str
    datatype: str
    shape: list[int]
    parameters: NotRequired[dict[str, int]]
    data: NotRequired[list[float]]


class _AnswerJson(TypedDict):
    model_name: str
    model_version: str
    outputs: list[_OutputJson]
    id: NotRequired[str]


def build_answer(
    model: str, version: int, request: InferenceRequest, outputs: Mapping[str, NDArray[Any]]
) -> tuple[bytes, int | None]:
    """The body of an inference answer.

    Returns:
        The body, and the length of its JSON when raw tensors follow.

    Raises:
        ProtocolError: 400, a number that JSON cannot hold was asked for as JSON.
    """
    wanted = request.outputs or tuple(WantedOutput(name, request.is_binary) for name in outputs)
    entries: list[_OutputJson] = []
    raw: list[bytes] = []
    for output in wanted:
        array = np.ascontiguousarray(outputs[output.name])
        datatype = DATATYPE_NAMES[array.dtype]
        entry: _OutputJson = {"name": output.name, "datatype": datatype, "shape": list(array.shape)}
        if output.is_binary:
            raw.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        entries.append(entry)
    answer: _AnswerJson = {"model_name": model, "model_version": str(version), "outputs": entries}
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


def _parameters_of(item: dict[str, Any]) -> dict[str, Any]:
    """The `parameters` of a request, an input or an output."""
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ProtocolError(400, "Unable to parse 'parameters': expected an object")
    return parameters


def _declared_input(item: Any) -> tuple[str, str, tuple[int, ...]]:
    """Name, datatype and shape of an input of a JSON request."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ProtocolError(400, "Unable to parse 'name': every input needs one")
    name, datatype, shape = item["name"], item.get("datatype"), item.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ProtocolError(400, f"Unable to parse 'shape' of input '{name}': expected an array of sizes")
    if not isinstance(datatype, str) or datatype not in NUMPY_TYPES:
        raise ProtocolError(400, f"input '{name}' has datatype {datatype!r}; served are {', '.join(NUMPY_TYPES)}")
    if any(key.startswith("shared_memory") for key in _parameters_of(item)):
        raise ProtocolError(400, f"input '{name}' is in shared memory, which is not supported here")
    return name, datatype, tuple(shape)


def _array_of_numbers(name: str, datatype: str, shape: tuple[int, ...], numbers: Sequence[Any]) -> NDArray[Any]:
    """A tensor out of numbers, flat or nested."""
    try:
        array: NDArray[Any] = np.asarray(numbers, NUMPY_TYPES[datatype])
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(400, f"Unable to parse 'data' of input '{name}': {error}") from error
    if array.size != math.prod(shape):
        raise ProtocolError(
            400, f"input '{name}' got unexpected elements count {array.size}, expected {math.prod(shape)}"
        )
    return array.reshape(shape)


def _array_of_bytes(
    name: str, datatype: str, shape: tuple[int, ...], body: bytes | memoryview, size: Any
) -> NDArray[Any]:
    """A tensor out of the raw little-endian bytes that a body begins with."""
    numpy_type = np.dtype(NUMPY_TYPES[datatype]).newbyteorder("<")
    expected = math.prod(shape) * numpy_type.itemsize
    if type(size) is not int or size != expected:
        raise ProtocolError(400, f"input byte size mismatch for input '{name}'. Expected {expected}, got {size}")
    if size > len(body):
        raise ProtocolError(400, f"unexpected size for input '{name}', missing {size - len(body)} bytes")
    return np.frombuffer(body, numpy_type, math.prod(shape)).reshape(shape)


def _wanted(item: Any, is_binary: bool) -> WantedOutput:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ProtocolError(400, "Unable to parse 'name': every output needs one")
    parameters = _parameters_of(item)
    _refuse_unsupported(f"output '{item['name']}'", parameters)
    if "binary_data" in parameters:
        is_binary = parameters["binary_data"] is True
    return WantedOutput(item["name"], is_binary)
