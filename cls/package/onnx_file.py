"""Compares the metadata of an ONNX file with its meta.json. Nothing is run here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cls.errors import PackageError, PackageFault
from cls.package.meta import ModelMeta, TensorMeta
from cls.wording import counted

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_DATATYPES = {1: "FP32", 10: "FP16", 2: "UINT8"}
_SHOWN_LABELS = 4


def read_onnx(content: bytes, where: object) -> ModelProto:
    """An ONNX file without the weights it may keep elsewhere.

    Raises:
        PackageError: it is not ONNX.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model: ModelProto = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise PackageError(
            f"is not an ONNX model: {str(error).splitlines()[0][:300]}", code="not_onnx", where=where
        ) from error
    if not model.graph.node:
        raise PackageError("is not an ONNX model: it has no graph", code="not_onnx", where=where)
    return model


def external_weights(model: ModelProto) -> dict[str, int]:
    """Files that weights are kept in -> how many bytes of them are needed, as far as the model says."""
    import onnx

    needed: dict[str, int] = {}
    tensors = [*_tensors_of_graph(model.graph)]
    tensors += [tensor for function in model.functions for tensor in _tensors_of_nodes(function.node)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entry = {item.key: item.value for item in tensor.external_data}
            end = sum(int(entry[key]) for key in ("offset", "length") if entry.get(key, "").isdigit())
            location = entry.get("location", "")
            needed[location] = max(needed.get(location, 0), end)
    return needed


def external_faults(model: ModelProto, name: str, sizes: Mapping[str, int]) -> list[PackageFault]:
    """What is wrong with weights outside the file: a package's model is one file.

    Args:
        model: the ONNX.
        name: what the file is called.
        sizes: the files at hand -> bytes.
    """
    faults = []
    for location, needed in external_weights(model).items():
        if location not in sizes:
            what = f"{name} keeps weights in the file '{location}', which is not there"
            faults.append(PackageFault(what, code="missing_weights"))
        elif sizes[location] < needed:
            faults.append(
                PackageFault(
                    f"{name} keeps weights in the file '{location}', which is cut short: it has {sizes[location]}"
                    f" bytes, and {needed} are needed",
                    code="cut_short",
                )
            )
        else:
            what = f"{name} keeps weights in the file '{location}': servers take one file"
            faults.append(PackageFault(what, code="external_weights"))
    return faults


def onnx_faults(model: ModelProto, meta: ModelMeta, name: str) -> list[PackageFault]:
    """Where an ONNX file and a meta.json contradict each other: inputs, outputs, and the metadata inside the file."""
    faults = _tensor_faults(model, meta, name)
    embedded = {prop.key: prop.value for prop in model.metadata_props}
    labels = _json_of(embedded.get("labels"))
    if isinstance(labels, list) and labels != list(meta.labels):
        if sorted(map(str, labels)) == sorted(meta.labels):
            what = f"meta.json has the labels in another order than {name}: {_some(meta.labels)}"
            faults.append(PackageFault(what, code="label_order_mismatch"))
        else:
            faults.append(
                PackageFault(
                    f"meta.json is of another model: it describes group '{meta.group}' with the labels"
                    f" {_some(meta.labels)}, and {name} was made for {_some(labels)}",
                    code="label_mismatch",
                )
            )
    elif (embedded.get("run") or meta.training.run, embedded.get("weights") or meta.digests.weights) != (
        meta.training.run,
        meta.digests.weights,
    ):
        faults.append(
            PackageFault(
                f"meta.json is of another model: it describes run {meta.training.run} (weights"
                f" {meta.digests.weights[:12]}), and {name} was made from run {embedded.get('run', '?')} (weights"
                f" {embedded.get('weights', '?')[:12]})",
                code="other_model",
            )
        )
    thresholds = _json_of(embedded.get("thresholds"))
    if isinstance(thresholds, dict) and thresholds != meta.thresholds and labels == list(meta.labels):
        changed = [
            f"{label} {value:g} instead of {thresholds.get(label)}"
            for label, value in meta.thresholds.items()
            if thresholds.get(label) != value
        ]
        what = f"meta.json has other thresholds than {name}: {_some(changed)}"
        faults.append(PackageFault(what, code="threshold_mismatch"))
    preprocessing = _json_of(embedded.get("preprocessing"))
    if isinstance(preprocessing, dict):
        ours = meta.preprocessing.model_dump(mode="json")
        changed = [
            f"{key} {ours.get(key)} instead of {value}"
            for key, value in preprocessing.items()
            if ours.get(key) != value
        ]
        if changed:
            what = f"meta.json has another preprocessing than {name}: {'; '.join(changed)}"
            faults.append(PackageFault(what, code="preprocessing_mismatch"))
    return faults


def _tensor_faults(model: ModelProto, meta: ModelMeta, name: str) -> list[PackageFault]:
    faults = []
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    for kind, named, there in (("input", meta.inputs, inputs), ("output", meta.outputs, model.graph.output)):
        found = {item.name: _tensor_of(item) for item in there}
        for tensor in named:
            if tensor.name not in found:
                what = f"meta.json names the {kind} '{tensor.name}', and {name} has {', '.join(sorted(found))}"
                faults.append(PackageFault(what, code="tensor_not_in_model"))
            elif not _fits(tensor, found[tensor.name]):
                faults.append(
                    PackageFault(
                        f"meta.json says the {kind} '{tensor.name}' is {tensor.datatype} {list(tensor.shape)}, and in"
                        f" {name} it is {found[tensor.name].datatype} {list(found[tensor.name].shape)}",
                        code="tensor_mismatch",
                    )
                )
    if len(inputs) > len(meta.inputs):
        what = f"{name} takes {counted(len(inputs), 'input')}, and meta.json names {len(meta.inputs)}"
        faults.append(PackageFault(what, code="further_inputs"))
    return faults


def _tensor_of(item: Any) -> TensorMeta:
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in item.type.tensor_type.shape.dim)
    datatype = _DATATYPES.get(item.type.tensor_type.elem_type, f"ONNX type {item.type.tensor_type.elem_type}")
    return TensorMeta.model_construct(name=item.name, datatype=datatype, shape=shape)


def _fits(declared: TensorMeta, found: TensorMeta) -> bool:
    return (
        declared.datatype == found.datatype
        and len(declared.shape) == len(found.shape)
        and all(-1 in pair or pair[0] == pair[1] for pair in zip(declared.shape, found.shape, strict=True))
    )


def _json_of(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _some(names: Any) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:_SHOWN_LABELS]) + (f" and {len(shown) - _SHOWN_LABELS} more" if len(shown) > 4 else "")


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
