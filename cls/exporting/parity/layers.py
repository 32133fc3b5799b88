"""The layers at which a converted network departs from the one it was made from: by its weights, or by its values.

Weights must be those of the original, to the rounding of the precision. In an ONNX, every value is looked at. A
conversion made from another ONNX keeps the names of that one's values: the two are compared value by value. The ONNX
made from the trained network itself names its values as the exporter likes, and folds layers into others: there, each
layer's output in PyTorch is looked for among the ONNX's values of its shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from cls.errors import ExportError, ParityFault, first_line
from cls.exporting.formats.end_to_end import NETWORK_PREFIX
from cls.exporting.formats.onnx import load_onnx
from cls.exporting.parity.report import Divergence
from cls.runtimes.local import openvino_core
from cls.wording import counted

# A value that is off by more than this share of its size is another value, by precision: rounding adds up to less.
LIMITS = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.3}
# Layers in a row that are folded into the next one in an ONNX, at most: convolution and normalisation.
_MOST_FOLDED = 2
_PARAMETER = re.compile(r"^(.+)\.(weight|bias|gamma|beta)\b")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)

Values = dict[str, NDArray[np.float32]]

_QUANTISED = "_quantized"
_DEQUANTISED = "_DequantizeLinear"

# Rounding to the nearest of 8 bits is off by half a step at most; the rest is that of float32.
_STEPS = 0.51

# Half precision: 11 bits, and nothing smaller than this.
_HALF_RELATIVE, _HALF_SMALLEST = 2.0**-11 * 1.01, 2e-7
_SHOWN = 4


@dataclass(frozen=True)
class _Graph:
    """An ONNX network with all its values for some pictures; nodes and values in the order they are computed."""

    nodes: dict[str, onnx.NodeProto]
    values: Values


def divergence_from_onnx(
    source: Path, source_images: NDArray[Any], converted: Path, images: NDArray[Any], precision: str
) -> Divergence | None:
    """Where a network departs from the ONNX it was made from.

    Args:
        source: the ONNX it was made from.
        source_images: what that one takes of some people.
        converted: the ONNX in doubt.
        images: what this one takes of the same people.
        precision: of the converted one's numbers.

    Returns:
        The first value of a name that both know and that departs; None where none does.
    """
    right, wrong = _run(source, source_images), _run(converted, images)
    # An end-to-end model has the network's own values under a prefix; those of its input stage may be called alike.
    prefix = NETWORK_PREFIX if any(name.startswith(NETWORK_PREFIX) for name in wrong.values) else ""
    twins = {name: prefix + name for name in right.values if prefix + name in wrong.values}
    shared = list(twins)
    differences = {name: _difference(right.values[name], wrong.values[twins[name]]) for name in shared}
    if not differences:
        return None
    limit = LIMITS[precision]
    if precision != "fp32":
        # Small errors add up without any large one: half of what the answers are off by is where it happens.
        limit = min(limit, differences[shared[-1]] / 2)
    for name in shared:
        if differences[name] > limit:
            return _divergence(wrong.nodes[twins[name]], right.values[name], differences[name], limit)
    return None


def divergence_from_torch(
    network: nn.Module, normal: NDArray[np.float32], converted: Path, images: NDArray[Any]
) -> Divergence | None:
    """Where an ONNX departs from the trained network.

    Args:
        network: the trained network.
        normal: some people as it takes them, float32 (batch, 3, height, width).
        converted: the ONNX in doubt.
        images: the same people as that one takes them.

    Returns:
        The first layer whose output is nowhere in the ONNX, with the node in its place; None where all are.
    """
    graph = _run(converted, images)
    layers = _layer_outputs(network, normal)
    places = [_place_of(output, graph.values) for _, output in layers]
    for index in range(len(layers)):
        following = places[index : index + _MOST_FOLDED + 1]
        if all(place is None for place in following):
            break
    else:
        return None
    before = next((place for place in reversed(places[:index]) if place is not None), None)
    node = _node_after(graph, before, {place for place in places if place is not None})
    outputs = [output for _, output in layers[index : index + _MOST_FOLDED + 1]]
    found = graph.values[node.output[0]]
    comparable = [(_difference(output, found), output) for output in outputs if output.shape == found.shape]
    difference, right = min(comparable, key=lambda pair: pair[0]) if comparable else (1.0, outputs[0])
    return _divergence(node, right, difference, LIMITS["fp32"], layer=layers[index][0])


def _divergence(
    node: onnx.NodeProto, right: NDArray[np.float32], difference: float, limit: float, layer: str | None = None
) -> Divergence:
    parameters = [match.group(1) for name in node.input if (match := _PARAMETER.match(name))]
    return Divergence(
        node=node.name or node.output[0],
        operator=node.op_type,
        layer=layer if layer is not None else (parameters[0] if parameters else ""),
        difference=difference if np.isfinite(difference) else None,
        largest_value=float(np.abs(right).max()),
        limit=limit,
    )


def _difference(right: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Norm of the difference over the right value's norm; infinite where a value is no number or has another shape."""
    if right.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    norm = float(np.linalg.norm(right.ravel().astype(np.float64)))
    gap = float(np.linalg.norm((right - found).ravel().astype(np.float64)))
    return gap / norm if norm > 0 else gap


def _run(path: Path, images: NDArray[Any]) -> _Graph:
    """Runs an ONNX with every value as an output, each node as it stands (nothing fused)."""
    import onnxruntime

    model = onnx.load(path)
    types = _types(model)
    outputs = {output.name for output in model.graph.output}
    nodes = {name: node for node in model.graph.node for name in node.output if name}
    for name in nodes:
        if name not in outputs:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    wanted = [name for name in nodes if types.get(name, onnx.TensorProto.FLOAT) in _FLOATS]
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        answers = session.run(wanted, {session.get_inputs()[0].name: images})
    except Exception as error:
        raise ExportError(
            f"cannot be run with all its values: {first_line(error)}", code="run_failed", where=path
        ) from error
    values = {
        name: np.asarray(value, np.float32)
        for name, value in zip(wanted, answers, strict=True)
        if np.issubdtype(value.dtype, np.floating)
    }
    return _Graph(nodes, values)


def _types(model: onnx.ModelProto) -> Mapping[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    return {info.name: info.type.tensor_type.elem_type for info in inferred.graph.value_info}


def _layer_outputs(network: nn.Module, images: NDArray[np.float32]) -> list[tuple[str, NDArray[np.float32]]]:
    """The output of every innermost layer, in the order they run."""
    import torch

    outputs: list[tuple[str, NDArray[np.float32]]] = []

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                # Cloned: a layer that works in place changes the output of the one before.
                outputs.append((name, output.detach().clone().numpy()))

        return hook

    layers = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(keep(name)) for name, module in layers]
    try:
        with torch.inference_mode():
            network(torch.from_numpy(images))
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _place_of(output: NDArray[np.float32], values: Values) -> str | None:
    """The ONNX's value that is a layer's output; a layer that answers nothing but zeros has none to look for."""
    best, place = LIMITS["fp32"], None
    for name, value in values.items():
        if value.shape == output.shape:
            difference = _difference(output, value)
            if difference <= best:
                best, place = difference, name
    return place


def _node_after(graph: _Graph, value: str | None, right: set[str]) -> onnx.NodeProto:
    """The first node fed by a value that is right and whose own output is not; the first of all where none is."""
    nodes = [node for name, node in graph.nodes.items() if name in graph.values and name not in right]
    fed = [node for node in nodes if value is None or value in node.input]
    return (fed or nodes or list(graph.nodes.values()))[0]


def weight_faults(source: Path, converted: Path) -> list[ParityFault]:
    """Names the layers whose weights are not those of the network that a conversion was made from.

    An error in few weights, such as a channel set to zero, may change the answers less than 8 bits do, so that nothing
    else shows it. Weights that the conversion keeps under another name, or in another shape, are not looked at.

    Args:
        source: the float32 ONNX it was made from.
        converted: the conversion, an ONNX or OpenVINO's graph, plain or end-to-end, of any precision.

    Raises:
        ExportError: a file is missing or cut short.
    """
    found = _weights_of_openvino(converted) if converted.suffix == ".xml" else _weights(load_onnx(converted).graph)
    wrong = []
    for tensor in load_onnx(source).graph.initializer:
        right = numpy_helper.to_array(tensor)
        there = found.get(NETWORK_PREFIX + tensor.name, found.get(tensor.name))
        if there is None or there[0].shape != right.shape or not _is_float(right) or not right.size:
            continue
        values, allowed = there
        channels = _channels_beyond(right.astype(np.float64), values, allowed)
        if channels:
            more = f" and {len(channels) - 1} more" if len(channels) > 1 else ""
            wrong.append(f"{tensor.name} (channel {channels[0]}{more})")
    if not wrong:
        return []
    shown = ", ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
    what = f"the weights of {counted(len(wrong), 'layer')} are not those of the trained network: {shown}"
    return [ParityFault(what, code="weights_differ")]


def _weights(graph: onnx.GraphProto) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Name -> the weights as the network uses them, and how far each may be off."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {name: _as_stored(value) for name, value in tensors.items() if _is_float(value)}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in tensors:
            continue
        values = tensors[node.input[0]]
        scale, zero = (_along(values, tensors[name], _axis(node)) for name in node.input[1:3])
        found[node.input[0].removesuffix(_QUANTISED)] = _as_dequantised(values, scale, zero)
    return found


def _weights_of_openvino(graph: Path) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Likewise; OpenVINO keeps the names of the ONNX."""
    found = {}
    for node in openvino_core().read_model(str(graph)).get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind == "Constant" and node.get_element_type().is_real():
            found[name] = _as_stored(node.data)
        elif kind == "Multiply" and name.endswith(_DEQUANTISED):
            above_zero = node.input_value(0).get_node()
            if above_zero.get_type_name() != "Subtract":
                continue
            values, zero = _constant(above_zero.input_value(0)), _constant(above_zero.input_value(1))
            scale = _constant(node.input_value(1))
            if values is not None and scale is not None and zero is not None:
                found[name.removesuffix(_DEQUANTISED)] = _as_dequantised(values, scale, zero)
    return found


def _constant(output: Any) -> NDArray[np.float64] | None:
    """The values of a constant, of another type or shape; None for what depends on the network's input."""
    node = output.get_node()
    if node.get_type_name() == "Constant":
        return np.asarray(node.data, np.float64)
    if node.get_type_name() not in ("Convert", "Reshape"):
        return None
    values = _constant(node.input_value(0))
    return None if values is None else values.reshape(node.get_output_shape(0))


def _as_stored(values: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = values.astype(np.float64)
    if values.dtype == np.float16:
        return wide, np.abs(wide) * _HALF_RELATIVE + _HALF_SMALLEST
    return wide, np.zeros_like(wide)


def _as_dequantised(
    values: NDArray[np.generic], scale: NDArray[np.float64], zero: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = (values.astype(np.float64) - zero) * scale
    return wide, np.broadcast_to(_STEPS * scale, wide.shape)


def _axis(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1)


def _along(values: NDArray[np.generic], factors: NDArray[np.generic], axis: int) -> NDArray[np.float64]:
    """One factor for all of the values, or one for each index of an axis, in a shape that fits them."""
    wide = factors.astype(np.float64)
    if wide.ndim == 0 or not values.ndim:
        return wide
    return wide.reshape([-1 if index == axis % values.ndim else 1 for index in range(values.ndim)])


def _channels_beyond(right: NDArray[np.float64], found: NDArray[np.float64], allowed: NDArray[np.float64]) -> list[int]:
    """The output channels, along the first axis, with a weight further off than allowed."""
    is_off = ~(np.abs(found - right) <= allowed)
    return np.flatnonzero(is_off.reshape(len(right), -1).any(axis=1)).tolist() if right.ndim else [0] * int(is_off)


def _is_float(values: NDArray[np.generic]) -> bool:
    return values.dtype in (np.float16, np.float32, np.float64)
