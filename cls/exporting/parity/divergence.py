"""The first layer at which a converted ONNX network departs: every value inside it is looked at.

A conversion made from another ONNX keeps the names of that one's values: the two are compared value by value. The ONNX
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
from torch import nn

from cls.errors import ExportError, first_line
from cls.exporting.formats.end_to_end import NETWORK_PREFIX
from cls.exporting.parity.report import Divergence

# A value that is off by more than this share of its size is another value, by precision: rounding adds up to less.
LIMITS = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.3}
# Layers in a row that are folded into the next one in an ONNX, at most: convolution and normalisation.
_MOST_FOLDED = 2
_PARAMETER = re.compile(r"^(.+)\.(weight|bias|gamma|beta)\b")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)

Values = dict[str, NDArray[np.float32]]


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
