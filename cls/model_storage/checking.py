"""Is an uploaded zip a package that can be served? All that can be found out before the repository is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cls.errors import FileError, PackageError
from cls.files import write_json_atomic, write_text_atomic
from cls.model_storage.names import SemanticVersion
from cls.model_storage.refusal import RefusedError
from cls.model_storage.repository import UPLOAD_FILE_NAME
from cls.model_storage.sessions import batch_of_zeros, open_session
from cls.package.archive import open_package
from cls.package.meta import META_FILE_NAME, ModelMeta, parse_meta
from cls.package.triton_config import CONFIG_FILE_NAME, META_PARAMETER, TritonConfig, parse_config, with_meta

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

_NO_SPACE = 28


@dataclass(frozen=True)
class CheckedUpload:
    """A package unpacked beside its zip and found to be in order.

    Attributes:
        folder: holds the model file, meta.json, config.pbtxt, upload.json; becomes the version folder.
        meta: meta.json as it came, read.
        config_text: config.pbtxt.
        model_name: `model.onnx` or `model.plan`.
    """

    folder: Path
    meta: dict[str, Any]
    config_text: str
    model_name: str


def check_upload(zip_path: Path, sha256: str, *, is_meta_strict: bool) -> CheckedUpload:
    """Checks an uploaded zip and unpacks it beside itself.

    Args:
        zip_path: the zip, in its stage.
        sha256: digest of the zip, to be remembered with the version.
        is_meta_strict: refuse a meta.json that does not keep the published schema. The older upload takes any JSON
            object, because older tools wrote theirs.

    Raises:
        RefusedError: 422, it cannot be served; says why. 507, there is no space to unpack it.
    """
    folder = zip_path.with_name("version")
    try:
        with open_package(zip_path) as package:
            is_ours = is_meta_strict or "schema_version" in package.meta_json
            meta = parse_meta(package.meta_json) if is_ours else None
            package.extract(folder)
            checked = CheckedUpload(folder, package.meta_json, package.config_text, package.model_name)
    except PackageError as error:
        raise RefusedError(422, f"the package {_without_place(error)}", hint=error.hint) from error
    except FileError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == _NO_SPACE:
            raise RefusedError(507, "no space is left to unpack the package") from error
        raise RefusedError(422, f"the package cannot be unpacked: {error.what}") from error
    if checked.model_name == "model.onnx":
        _check_onnx(folder / checked.model_name, parse_config(checked.config_text), meta)
    uploaded = {"sha256": sha256, "uploaded_at": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json_atomic(folder / UPLOAD_FILE_NAME, uploaded)
    return checked


def name_version(upload: CheckedUpload, version: SemanticVersion) -> CheckedUpload:
    """The upload with its semantic version written into meta.json, and into the copy config.pbtxt carries."""
    meta = {**upload.meta, "model_version": version.text}
    text = json.dumps(meta, ensure_ascii=False, indent=2) + "\n"
    write_text_atomic(upload.folder / META_FILE_NAME, text)
    config_text = upload.config_text
    if META_PARAMETER in parse_config(config_text).parameters:
        config_text = with_meta(config_text, text)
        write_text_atomic(upload.folder / CONFIG_FILE_NAME, config_text)
    return CheckedUpload(upload.folder, meta, config_text, upload.model_name)


def _without_place(error: PackageError) -> str:
    """The error without the place of our temporary file: only the name inside the zip is of use to the sender."""
    inside = (error.where or "").partition("!")[2]
    return f"holds a file {inside} that {error.what}" if inside else error.what


def _check_onnx(path: Path, config: TritonConfig, meta: ModelMeta | None) -> None:
    """Loads the model, runs it once on zeros, and compares it with what the package says of it."""
    _refuse_external_data(path)
    session = open_session(path)
    inputs = {item.name for item in session.get_inputs()}
    outputs = {item.name for item in session.get_outputs()}
    for kind, named, there in (("input", config.inputs, inputs), ("output", config.outputs, outputs)):
        absent = [tensor.name for tensor in named if tensor.name not in there]
        if absent:
            raise RefusedError(
                422,
                f"config.pbtxt names the {kind} {absent[0]!r}, and model.onnx has {', '.join(sorted(there))}",
                hint="make the package again with `cls export`",
            )
    if meta is None:
        return
    height_px, width_px = meta.preprocessing.height_px, meta.preprocessing.width_px
    output = meta.outputs[0].name
    try:
        zeros = {meta.inputs[0].name: batch_of_zeros(session, meta.inputs[0].name, (1, 3, height_px, width_px))}
        answer = session.run([output], zeros)[0]
    except Exception as error:
        # ONNX Runtime raises classes of its own without a common root, for whatever a foreign graph does.
        raise RefusedError(
            422, f"model.onnx fails on one picture of {height_px}x{width_px} pixels: {_first_line(error)}"
        ) from error
    if answer.shape != (1, len(meta.labels)):
        raise RefusedError(
            422,
            f"output {output!r} of model.onnx has shape {list(answer.shape)} for one picture, "
            f"and meta.json names {len(meta.labels)} labels",
            hint="make the package again with `cls export`",
        )


def _refuse_external_data(path: Path) -> None:
    """A model that reads weights from other files could read any file of this machine."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise RefusedError(422, f"model.onnx is not an ONNX model: {_first_line(error)}") from error
    tensors = [*_tensors_of_graph(model.graph)]
    tensors += [tensor for function in model.functions for tensor in _tensors_of_nodes(function.node)]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise RefusedError(422, "model.onnx keeps weights in other files", hint="export it as a single file")


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[TensorProto]:
    node: NodeProto
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs):
                if graph.ByteSize():
                    yield from _tensors_of_graph(graph)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
