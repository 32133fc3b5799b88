"""Inference requests and answers as gRPC messages: tensors as raw bytes or as lists of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cls.model_storage.inference.sessions import NUMPY_TYPES
from cls.model_storage.inference.tensors import (
    DATATYPE_NAMES,
    InferenceRequest,
    ProtocolError,
    WantedOutput,
    array_of_bytes,
)

if TYPE_CHECKING:
    # The message types are generated code without annotations.
    Message = Any

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


def parse_message(message: Message) -> InferenceRequest:
    """Reads a ModelInferRequest.

    Raises:
        ProtocolError: 400, the message does not keep the protocol.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise ProtocolError(400, f"expected {len(message.inputs)} raw_input_contents, one an input, but got {len(raw)}")
    inputs: dict[str, NDArray[Any]] = {}
    datatypes: dict[str, str] = {}
    for number, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise ProtocolError(400, f"input '{tensor.name}' already exists in request")
        shape = _shape_of(tensor)
        _refuse_unsupported(f"input '{tensor.name}'", tensor.parameters)
        if raw:
            if tensor.HasField("contents"):
                raise ProtocolError(400, f"input '{tensor.name}' has contents and raw_input_contents: send one of them")
            content = raw[number]
            inputs[tensor.name] = array_of_bytes(tensor.name, tensor.datatype, shape, content, 0, len(content))
        else:
            inputs[tensor.name] = _array_of_numbers(tensor, shape)
        datatypes[tensor.name] = tensor.datatype
    for output in message.outputs:
        _refuse_unsupported(f"output '{output.name}'", output.parameters)
    outputs = tuple(WantedOutput(output.name, True) for output in message.outputs)
    return InferenceRequest(message.id, inputs, outputs or None, True, datatypes)


def build_message(model: str, version: int, request: InferenceRequest, outputs: Mapping[str, NDArray[Any]]) -> Message:
    """The ModelInferResponse of outputs, all of them as raw bytes, in the order asked for."""
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


def _array_of_numbers(tensor: Message, shape: tuple[int, ...]) -> NDArray[Any]:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise ProtocolError(400, f"input '{tensor.name}' of type {tensor.datatype} must come in raw_input_contents")
    try:
        array: NDArray[Any] = np.asarray(getattr(tensor.contents, field), NUMPY_TYPES[tensor.datatype])
    except (ValueError, OverflowError) as error:
        raise ProtocolError(400, f"Unable to parse the contents of input '{tensor.name}': {error}") from error
    if array.size != math.prod(shape):
        raise ProtocolError(
            400, f"input '{tensor.name}' got unexpected elements count {array.size}, expected {math.prod(shape)}"
        )
    return array.reshape(shape)


def _refuse_unsupported(what: str, parameters: Mapping[str, Any]) -> None:
    for key in parameters:
        if key.startswith("shared_memory"):
            raise ProtocolError(400, f"{what} is in shared memory, which is not supported here")
        if key == "classification":
            raise ProtocolError(400, f"{what}: classification is not supported here")
