"""An ONNX network with weights and arithmetic in half precision; its inputs and outputs stay float32."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cls.errors import ExportError, first_line
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.onnx import load_onnx, save_onnx, session_of

LARGEST_FP16 = 65504.0
# People whose values inside the network are looked at.
_PEOPLE_LOOKED_AT = 64


def write_onnx_fp16(source: Path, images: CalibrationImages, path: Path, *, kept_share: float = 0.0) -> tuple[str, ...]:
    """Writes an ONNX network in half precision; returns the nodes that stay in float32.

    Half precision ends at 65504. A runtime may hide an overflow on one machine (ONNX Runtime on a CPU calculates some
    of a half precision network in float32) and not on another: so the float32 network's own values are looked at, on
    real people, and a network that goes beyond is refused here.

    Args:
        source: the float32 network, of `cls.exporting.formats.onnx.write_onnx`.
        images: people to look at.
        path: the file to write, whole or not at all.
        kept_share: share of the nodes, from the input on, that stay in float32: rounding in the first layers reaches
            furthest.

    Raises:
        ExportError: a weight, or a value inside the network, is beyond half precision; names it.
    """
    from onnx_ir import from_proto, to_proto
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = load_onnx(source)
    check_range(model, images, source)
    kept = [node.name for node in model.graph.node][: round(kept_share * len(model.graph.node))]
    # torch's exporter lists the weights here, too, and the converter takes whatever it finds listed for half precision,
    # also the weights of nodes that stay in float32. It infers the types of all other values itself.
    del model.graph.value_info[:]
    level = logging.getLogger("onnxruntime.transformers.float16").level
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        half = convert_float_to_float16(
            model, keep_io_types=True, max_finite_val=LARGEST_FP16, min_positive_val=6e-8, node_block_list=kept
        )
    except Exception as error:
        raise ExportError(
            f"the network cannot be put into half precision: {first_line(error)}",
            code="conversion_failed",
            where=source,
        ) from error
    finally:
        logging.getLogger("onnxruntime.transformers.float16").setLevel(level)
    _drop_round_trips(half.graph)
    # The converter puts its casts at the end; ONNX wants every value made before it is used.
    graph = from_proto(half)
    graph.graph.sort()
    save_onnx(to_proto(graph), path)
    return tuple(kept)


def _drop_round_trips(graph: onnx.GraphProto) -> None:
    """Takes out what the converter puts between neighbours that stay in float32: to half precision and back."""
    rounded = {node.output[0]: node.input[0] for node in graph.node if _is_cast_of_converter(node, "FLOAT16")}
    ends = {output.name for output in graph.output}
    unrounded = {
        node.output[0]: rounded[node.input[0]]
        for node in graph.node
        if _is_cast_of_converter(node, "FLOAT") and node.input[0] in rounded and node.output[0] not in ends
    }
    for node in graph.node:
        node.input[:] = [unrounded.get(name, name) for name in node.input]
    # A cast to half precision is dead only after the one back is gone.
    kept = [node for node in graph.node if node.output[0] not in unrounded]
    used = {name for node in kept for name in node.input} | ends
    dead = rounded.keys() - used
    del graph.node[:]
    graph.node.extend(node for node in kept if node.output[0] not in dead)
    gone = dead | unrounded.keys()
    listed = [value for value in graph.value_info if value.name not in gone]
    del graph.value_info[:]
    graph.value_info.extend(listed)


def _is_cast_of_converter(node: onnx.NodeProto, to: str) -> bool:
    """Whether the converter put this cast between float32 and half precision; a network's own has another name."""
    names = {"FLOAT16": ("_cast_to_fp16_node", "graph_input_cast"), "FLOAT": ("_cast_to_fp32_node",)}[to]
    return node.op_type == "Cast" and any(name in node.name for name in names)


def check_range(model: onnx.ModelProto, images: CalibrationImages, where: Path) -> None:
    """Looks whether the weights and the values inside a float32 network fit into half precision."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            _check(f"weight '{tensor.name}'", _largest(numpy_helper.to_array(tensor)), where)
    looked_into = onnx.ModelProto()
    looked_into.CopyFrom(model)
    known = {output.name for output in looked_into.graph.output}
    for node in model.graph.node:
        looked_into.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name not in known)
    session = session_of(looked_into.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    for batch in images.batches(_PEOPLE_LOOKED_AT):
        for one in batch[:, None]:
            values: list[Any] = session.run(names, {session.get_inputs()[0].name: one})
            for name, value in zip(names, values, strict=True):
                _check(f"the values of '{name}'", _largest(value), where)


def _largest(values: Any) -> float:
    values = np.asarray(values)
    return float(np.abs(values).max()) if values.size and values.dtype == np.float32 else 0.0


def _check(what: str, largest: float, where: Path) -> None:
    if not largest <= LARGEST_FP16:
        raise ExportError(
            f"fp16 overflow: {what} reach {largest:.6g}, and half precision ends at {LARGEST_FP16:g}",
            code="fp16_overflow",
            where=where,
            hint="leave out the fp16 formats, or train with a larger --decay",
        )
