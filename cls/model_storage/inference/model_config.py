"""What a model's config.pbtxt and its ONNX graph say of its tensors, in the words of the Open Inference Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cls.model_storage.inference.sessions import datatype_of
from cls.model_storage.refusal import RefusedError
from cls.package.triton_config import TritonConfig, config_as_json, with_name

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# 64-bit numbers of config.pbtxt, which protobuf writes as text and Triton as numbers.
_NUMBER_LISTS = ("dims", "versions", "shape")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a served model.

    Attributes:
        name: its name.
        datatype: e.g. `FP32`.
        shape: -1 for an axis of any size.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """As `GET /v2/models/NAME` shows it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            asked in (-1, size) for asked, size in zip(self.shape, shape, strict=True)
        )


def tensor_specs(
    session: InferenceSession, config: TritonConfig
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a model: as config.pbtxt says, or as the graph says where config.pbtxt is silent.

    Raises:
        RefusedError: 422, the two contradict each other, or a tensor's type cannot be served.
    """
    inputs = {item.name: _spec_of_graph(item) for item in session.get_inputs()}
    outputs = {item.name: _spec_of_graph(item) for item in session.get_outputs()}
    if config.inputs and {tensor.name for tensor in config.inputs} != set(inputs):
        raise RefusedError(422, f"config.pbtxt does not name the model's inputs: {', '.join(inputs)}")
    return _agreed("input", inputs, config.inputs), _agreed("output", outputs, config.outputs)


def _agreed(kind: str, graph: dict[str, TensorSpec], named: tuple[Any, ...]) -> tuple[TensorSpec, ...]:
    specs: list[TensorSpec] = []
    for tensor in named:
        in_graph = graph.get(tensor.name)
        if in_graph is None:
            raise RefusedError(
                422, f"config.pbtxt names the {kind} {tensor.name!r}, and the model has {', '.join(graph)}"
            )
        shape = tuple(tensor.shape)
        is_fitting = len(shape) == len(in_graph.shape) and all(
            -1 in pair or pair[0] == pair[1] for pair in zip(shape, in_graph.shape, strict=True)
        )
        if tensor.datatype != in_graph.datatype or not is_fitting:
            raise RefusedError(
                422,
                f"config.pbtxt declares the {kind} {tensor.name!r} as {tensor.datatype} {list(shape)}, "
                f"and the model has {in_graph.datatype} {list(in_graph.shape)}",
            )
        specs.append(TensorSpec(tensor.name, tensor.datatype, shape))
    return tuple(specs) or tuple(graph.values())


def _spec_of_graph(item: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    return TensorSpec(item.name, datatype_of(item.type), shape)


def config_json(config_text: str, model: str) -> dict[str, Any]:
    """What `GET /v2/models/NAME/config` answers, with numbers as numbers."""
    content: dict[str, Any] = _with_numbers(config_as_json(with_name(config_text, model)))
    return content


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: [int(size) for size in item]
            if key in _NUMBER_LISTS and isinstance(item, list)
            else _with_numbers(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return value
