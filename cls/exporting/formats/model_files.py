"""Whether a model's weights are all there: those that stand in a file beside the graph, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cls.errors import ExportError, PackageError
from cls.package.onnx_file import external_weights, read_onnx

_XML_WEIGHTS = re.compile(rb'\boffset="(\d+)"[^>]*?\bsize="(\d+)"|\bsize="(\d+)"[^>]*?\boffset="(\d+)"')


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
