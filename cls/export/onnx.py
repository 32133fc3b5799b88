"""A network as ONNX: one file, any batch size, labels and preprocessing inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from cls.errors import ExportError
from cls.export.torchscript import check_same, example_images, first_line, frozen_copy, quiet_export
from cls.files import write_bytes_atomic
from cls.package.meta import INPUT_NAME, OUTPUT_NAME
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.preprocess import Preprocessing


def write_onnx(network: nn.Module, preprocessing: Preprocessing, labels: Sequence[str], path: Path) -> None:
    """Writes a network as ONNX: float32, evaluation mode, one file, the same bytes for the same network.

    Input `images`, float32 (batch, 3, height, width), normalised; output `logits`, float32 (batch, labels). Labels,
    preprocessing and activation stand in the file's metadata (`labels`, `preprocessing`, `activation`, as JSON).
    Torch's exporter on `torch.export` is used: the older, faster one is deprecated (docs/decisions).

    Args:
        network: left as it is.
        preprocessing: what makes the network's input.
        labels: names in output order.
        path: the file to write, whole or not at all.

    Raises:
        ExportError: the network cannot be converted, or the conversion does not follow it to other batch sizes.
    """
    network = frozen_copy(network)
    with torch.inference_mode():
        width = network(example_images(preprocessing, 1)).shape[-1]
    if width != len(labels):
        raise ExportError(f"the network has {width} outputs, and there are {len(labels)} labels", where=path)
    model = _converted(network, preprocessing, path)
    _strip_traces(model)
    onnx.helper.set_model_props(
        model,
        {
            "labels": json.dumps(list(labels), ensure_ascii=False),
            "preprocessing": json.dumps(preprocessing.to_dict(), ensure_ascii=False),
            "activation": "sigmoid",
        },
    )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the converted network is not valid ONNX: {first_line(error)}", where=path) from error
    content = model.SerializeToString(deterministic=True)
    check_same(network, _runner(content), preprocessing, path, "ONNX")
    write_bytes_atomic(path, content)


def _converted(network: nn.Module, preprocessing: Preprocessing, path: Path) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH_SIZE)
    with quiet_export():
        try:
            program = torch.onnx.export(
                network,
                (example_images(preprocessing, 2),),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamo=True,
                dynamic_shapes=({0: batch},),
                external_data=False,
                verbose=False,
            )
        except Exception as error:
            raise ExportError(f"the network cannot be converted to ONNX: {first_line(error)}", where=path) from error
    if program is None:
        raise ExportError("the network cannot be converted to ONNX: the exporter made nothing", where=path)
    model: onnx.ModelProto = program.model_proto
    return model


def _strip_traces(model: onnx.ModelProto) -> None:
    """Removes the exporter's notes on each node: they hold source lines and paths of this machine."""
    parts: list[Any] = [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    parts += [*model.graph.input, *model.graph.output]
    for function in model.functions:
        parts += [function, *function.node]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _runner(content: bytes) -> Any:
    """ONNX bytes -> a function of a torch tensor, run by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run([OUTPUT_NAME], {INPUT_NAME: images.numpy()})[0]
        return logits

    return run
