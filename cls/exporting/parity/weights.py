"""Whether the weights of a converted network are those it was made from, to the rounding of its precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cls.exporting.formats.end_to_end import NETWORK_PREFIX
from cls.exporting.formats.onnx import read_onnx
from cls.runtimes.openvino import openvino_core
from cls.wording import counted

_QUANTISED = "_quantized"
_DEQUANTISED = "_DequantizeLinear"
# Rounding to the nearest of 8 bits is off by half a step at most; the rest is that of float32.
_STEPS = 0.51
# Half precision: 11 bits, and nothing smaller than this.
_HALF_RELATIVE, _HALF_SMALLEST = 2.0**-11 * 1.01, 2e-7
_SHOWN = 4


def weight_faults(source: Path, converted: Path) -> list[str]:
    """Names the layers whose weights are not those of the network that a conversion was made from.

    An error in few weights, such as a channel set to zero, may change the answers less than 8 bits do, so that nothing
    else shows it. Weights that the conversion keeps under another name, or in another shape, are not looked at.

    Args:
        source: the float32 ONNX it was made from.
        converted: the conversion, an ONNX or OpenVINO's graph, plain or end-to-end, of any precision.

    Returns:
        One line, or none.

    Raises:
        ExportError: a file is missing or cut short.
    """
    found = _weights_of_openvino(converted) if converted.suffix == ".xml" else _weights(read_onnx(converted).graph)
    wrong = []
    for tensor in read_onnx(source).graph.initializer:
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
    return [f"the weights of {counted(len(wrong), 'layer')} are not those of the trained network: {shown}"]


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
