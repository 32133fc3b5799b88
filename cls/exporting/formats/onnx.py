"""A network as ONNX: one file, any batch size, labels and preprocessing inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from cls.errors import ExportError, PackageError, first_line
from cls.exporting.formats.torchscript import check_same, example_images, frozen_copy, quiet_export
from cls.files import write_bytes_atomic
from cls.package.meta import INPUT_NAME, OUTPUT_NAME
from cls.package.onnx_file import external_weights, read_onnx
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.preprocess import Preprocessing
from cls.runtimes.local import available_cores
from cls.wording import counted

_XML_WEIGHTS = re.compile(rb'\boffset="(\d+)"[^>]*?\bsize="(\d+)"|\bsize="(\d+)"[^>]*?\boffset="(\d+)"')

# How timm's attention says which of two ways of one arithmetic it takes.
_FUSED = "fused_attn"


def check_model_files(files: Sequence[Path]) -> None:
    """Looks whether a graph's weights lie where it says they do, before anything runs it.

    Args:
        files: the model files of a format; the first is the graph.

    Raises:
        ExportError: a file is missing, is not what its name says, or is cut short.
    """
    for file in files:
        if not file.is_file():
            raise ExportError("the model's file is missing", code="missing_file", where=file, hint="export again")
    graph = files[0]
    if graph.suffix == ".onnx":
        _check_onnx(graph)
    elif graph.suffix == ".xml":
        _check_openvino(graph, graph.with_suffix(".bin"))


def _check_onnx(graph: Path) -> None:
    try:
        needed = external_weights(read_onnx(graph.read_bytes(), graph))
    except PackageError as error:
        raise ExportError(
            f"{error.what}, or is cut short", code="not_onnx", where=graph, hint="export again"
        ) from error
    for name, size_bytes in needed.items():
        _check_size(graph.parent / name, size_bytes, graph)


def _check_openvino(graph: Path, weights: Path) -> None:
    ends = []
    for match in _XML_WEIGHTS.finditer(graph.read_bytes()):
        numbers = [int(group) for group in match.groups() if group is not None]
        ends.append(sum(numbers))
    if ends:
        _check_size(weights, max(ends), graph)


def _check_size(weights: Path, needed_bytes: int, graph: Path) -> None:
    if not weights.is_file():
        raise ExportError(
            f"the weights of {graph.name} are missing", code="missing_weights", where=weights, hint="export again"
        )
    found_bytes = weights.stat().st_size
    if found_bytes < needed_bytes:
        raise ExportError(
            f"the weights of {graph.name} are cut short: {needed_bytes:,} bytes are needed, {found_bytes:,} are there",
            code="cut_short",
            where=weights,
            hint="export again; look at the free space",
        )


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
        raise ExportError(
            f"the network has {counted(width, 'output')} for {counted(len(labels), 'label')}",
            code="label_count_mismatch",
            where=path,
        )
    model = _converted(network, preprocessing, path)
    strip_source_locations(model)
    onnx.helper.set_model_props(
        model,
        {
            "labels": json.dumps(list(labels), ensure_ascii=False),
            "preprocessing": json.dumps(preprocessing.to_dict(), ensure_ascii=False),
            "activation": "sigmoid",
        },
    )
    _check_valid(model, path)
    check_same(network, _runner(model.SerializeToString()), partial(example_images, preprocessing), path, "ONNX")
    save_onnx(model, path)


def load_onnx(path: Path) -> onnx.ModelProto:
    """A network from its file, with all of its weights: those kept in a file beside it are read whole.

    Raises:
        ExportError: the file, or one that it keeps weights in, is missing or cut short.
    """
    check_model_files([path])
    model: onnx.ModelProto = onnx.load(path)
    return model


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Writes a network into one file, whole or not at all, the same bytes for the same network.

    Raises:
        ExportError: it is not valid ONNX.
    """
    _check_valid(model, path)
    write_bytes_atomic(path, model.SerializeToString(deterministic=True))


def _check_valid(model: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the converted network is not valid ONNX: {first_line(error)}", code="invalid_onnx", where=path
        ) from error


def add_notes(path: Path, notes: Mapping[str, str]) -> None:
    """Writes more into a network's metadata, beside what stands there."""
    model = load_onnx(path)
    known = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, {**known, **notes})
    save_onnx(model, path)


def _converted(network: nn.Module, preprocessing: Preprocessing, path: Path) -> onnx.ModelProto:
    try:
        try:
            return _exported(network, preprocessing)
        except Exception:
            # The exporter knows fused attention of four dimensions alone; windowed attention has five.
            fused = [module for module in network.modules() if getattr(module, _FUSED, False)]
            if not fused:
                raise
            for module in fused:
                setattr(module, _FUSED, False)
            return _exported(network, preprocessing)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporter wraps what happened in advice of many lines
            cause = cause.__cause__
        raise ExportError(
            f"the network cannot be converted to ONNX: {first_line(cause)}", code="conversion_failed", where=path
        ) from error


def _exported(network: nn.Module, preprocessing: Preprocessing) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH_SIZE)
    with quiet_export():
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
    if program is None:
        raise RuntimeError("the exporter made nothing")
    model: onnx.ModelProto = program.model_proto
    return model


def strip_source_locations(model: onnx.ModelProto) -> None:
    """Removes the exporter's notes on each node: they hold source lines and paths of this machine."""
    parts: list[Any] = [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    parts += [*model.graph.input, *model.graph.output]
    for function in model.functions:
        parts += [function, *function.node]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def session_of(content: bytes) -> Any:
    """ONNX bytes -> a session of ONNX Runtime on the CPU, on the cores that this process may use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _runner(content: bytes) -> Any:
    """ONNX bytes -> a function of a torch tensor, run by ONNX Runtime."""
    session = session_of(content)

    def run(images: torch.Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run([OUTPUT_NAME], {INPUT_NAME: images.numpy()})[0]
        return logits

    return run
