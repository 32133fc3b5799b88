"""One version of a model in ONNX Runtime: its metadata and its answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from numpy.typing import NDArray

from cls.model_storage.inference.engine import EngineError
from cls.model_storage.inference.tensors import (
    DATATYPE_NAMES,
    InferenceRequest,
    ProtocolError,
    datatype_of,
    open_session,
)
from cls.model_storage.names import RefusedError
from cls.package.triton_config import CONFIG_FILE_NAME, TritonConfig, config_as_json, parse_config, with_name

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a served model.

    Attributes:
        datatype: e.g. `FP32`.
        shape: -1 for an axis of any size.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            asked in (-1, size) for asked, size in zip(self.shape, shape, strict=True)
        )


def tensor_specs(
    session: InferenceSession, config: TritonConfig
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a model: as config.pbtxt says, or as the graph says where config.pbtxt is silent."""
    inputs = {item.name: _spec_of_graph(item) for item in session.get_inputs()}
    outputs = {item.name: _spec_of_graph(item) for item in session.get_outputs()}
    if config.inputs and {tensor.name for tensor in config.inputs} != set(inputs):
        raise RefusedError(
            422, f"config.pbtxt does not name the model's inputs: {', '.join(inputs)}", code="input_not_in_config"
        )
    return _agreed("input", inputs, config.inputs), _agreed("output", outputs, config.outputs)


def _agreed(kind: str, graph: dict[str, TensorSpec], named: tuple[Any, ...]) -> tuple[TensorSpec, ...]:
    specs: list[TensorSpec] = []
    for tensor in named:
        in_graph = graph.get(tensor.name)
        if in_graph is None:
            raise RefusedError(
                422,
                f"config.pbtxt names the {kind} {tensor.name!r}, and the model has {', '.join(graph)}",
                code="tensor_not_in_model",
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
                code="tensor_mismatch",
            )
        specs.append(TensorSpec(tensor.name, tensor.datatype, shape))
    return tuple(specs) or tuple(graph.values())


def _spec_of_graph(item: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    return TensorSpec(item.name, datatype_of(item.type), shape)


Answer = TypeVar("Answer")
AnswerBuilder: TypeAlias = Callable[[str, int, InferenceRequest, Mapping[str, NDArray[Any]]], Answer]


@dataclass
class _Durations:
    """How often something was done, and how long it took together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass
class _InferenceStats:
    """Requests that were answered, that failed, and runs of the network."""

    success: _Durations = field(default_factory=_Durations)
    fail: _Durations = field(default_factory=_Durations)
    compute_infer: _Durations = field(default_factory=_Durations)


@dataclass
class Counts:
    """How often a version was asked, and how long it took: the fields of the protocol's statistics extension.

    Attributes:
        last_inference: time of the last answer, milliseconds since 1970.
        inference_count: pictures.
        execution_count: requests that were answered.
        guard: held while the fields are changed or read together.
    """

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: _InferenceStats = field(default_factory=_InferenceStats)
    batch_stats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.guard = threading.Lock()

    def add(self, pictures: int, ns_all: int, ns_compute: int) -> None:
        """Counts an answered request."""
        with self.guard:
            self.last_inference = time.time_ns() // 1_000_000
            self.inference_count += pictures
            self.execution_count += 1
            self.inference_stats.success.add(ns_all)
            self.inference_stats.compute_infer.add(ns_compute)

    def add_failure(self) -> None:
        """Counts a request that was not answered."""
        with self.guard:
            self.inference_stats.fail.add(0)


@dataclass(frozen=True)
class ModelMetadata:
    """What `GET /v2/models/NAME` answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class LoadedVersion:
    """One version of a model, ready to answer."""

    model: str
    number: int
    config: TritonConfig
    config_json: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    session: InferenceSession = field(repr=False)
    file_state: tuple[int, int, int] = field(repr=False)
    counts: Counts = field(default_factory=Counts, repr=False)

    def infer(self, request: InferenceRequest, build: AnswerBuilder[Answer]) -> Answer:
        """Runs the model.

        Args:
            request: what is asked.
            build: makes the answer of model name, version, request and outputs, in the words of HTTP or of gRPC.

        Raises:
            ProtocolError: 400, the inputs or outputs asked for do not fit the model; 500, it fails on them.
        """
        started_ns = time.perf_counter_ns()
        try:
            batch = self._checked_batch(request)
            names = self._checked_outputs(request)
            compute_ns = time.perf_counter_ns()
            try:
                arrays = self.session.run(names, request.inputs)
            except Exception as error:
                # ONNX Runtime raises classes of its own without a common root.
                raise ProtocolError(500, f"model '{self.model}' failed in ONNX Runtime: {error}") from error
            compute_ns = time.perf_counter_ns() - compute_ns
            answer = build(self.model, self.number, request, dict(zip(names, arrays, strict=True)))
        except ProtocolError:
            self.counts.add_failure()
            raise
        self.counts.add(batch, time.perf_counter_ns() - started_ns, compute_ns)
        return answer

    def _checked_outputs(self, request: InferenceRequest) -> list[str]:
        """Names of the outputs a request asks for, once they are known to exist."""
        names = [tensor.name for tensor in self.outputs]
        if request.outputs is None:
            return names
        for output in request.outputs:
            if output.name not in names:
                raise ProtocolError(400, f"unexpected inference output '{output.name}' for model '{self.model}'")
        return [output.name for output in request.outputs]

    def _checked_batch(self, request: InferenceRequest) -> int:
        """How many pictures a request holds, once its inputs are known to fit."""
        expected = {tensor.name: tensor for tensor in self.inputs}
        for name in request.inputs:
            if name not in expected:
                raise ProtocolError(400, f"unexpected inference input '{name}' for model '{self.model}'")
        if len(request.inputs) != len(expected):
            raise ProtocolError(
                400, f"expected {len(expected)} inputs but got {len(request.inputs)} inputs for model '{self.model}'"
            )
        sizes = set()
        for name, array in request.inputs.items():
            tensor = expected[name]
            datatype = DATATYPE_NAMES[array.dtype.newbyteorder("=")]
            if datatype != tensor.datatype:
                raise ProtocolError(
                    400,
                    f"inference input '{name}' data-type is '{datatype}', "
                    f"but model '{self.model}' expects '{tensor.datatype}'",
                )
            if not tensor.takes(array.shape):
                raise ProtocolError(
                    400,
                    f"unexpected shape for input '{name}' for model '{self.model}'. "
                    f"Expected {_sizes(tensor.shape)}, got {_sizes(array.shape)}",
                )
            sizes.add(array.shape[0] if array.shape else 1)
        if self.config.max_batch_size > 0:
            if len(sizes) > 1:
                raise ProtocolError(400, f"inputs of model '{self.model}' differ in batch size")
            batch = next(iter(sizes), 1)
            if batch > self.config.max_batch_size:
                limit = self.config.max_batch_size
                raise ProtocolError(400, f"inference request batch-size must be <= {limit} for '{self.model}'")
            if batch == 0:
                raise ProtocolError(400, f"inference request for '{self.model}' holds no picture")
        return max(sizes, default=1)


def metadata_of(versions: Sequence[LoadedVersion]) -> ModelMetadata:
    """The metadata of a model's versions that are served, as the last of them says it."""
    last = versions[-1]
    platform = last.config.platform or "onnxruntime_onnx"
    return ModelMetadata(last.model, tuple(str(one.number) for one in versions), platform, last.inputs, last.outputs)


def load_version(
    folder: Path, model: str, number: int, config_text: str, present: LoadedVersion | None
) -> LoadedVersion:
    """Opens a version, or keeps the one that is open when its file is still the same."""
    config = parse_config(config_text, f"{model}/{CONFIG_FILE_NAME}")
    path = folder / config.model_file_name
    if path.suffix != ".onnx":
        place = "a real Triton with a GPU" if path.suffix == ".plan" else "a real Triton"
        raise EngineError(
            422,
            f"a {path.name} needs {place}: start the service with --triton URL, or publish the ONNX package",
            code="triton_required",
        )
    if config.platform not in ("", "onnxruntime_onnx") or config.backend not in ("", "onnxruntime"):
        raise EngineError(
            422, f"the backend {config.backend or config.platform!r} is not there", code="unknown_backend"
        )
    if config.name not in ("", model):
        raise EngineError(
            422, f"config.pbtxt names the model {config.name!r}, and its folder is {model!r}", code="wrong_model_name"
        )
    try:
        state = path.stat()
    except OSError as error:
        raise EngineError(422, f"{number}/{path.name} cannot be read: {error.strerror}", code="unreadable") from error
    file_state = (state.st_ino, state.st_size, state.st_mtime_ns)
    is_same = present is not None and present.file_state == file_state
    session = present.session if present is not None and is_same else open_session(path)
    inputs, outputs = tensor_specs(session, config)
    return LoadedVersion(
        model,
        number,
        config,
        config_as_json(with_name(config_text, model)),
        inputs,
        outputs,
        session,
        file_state,
        present.counts if present is not None and is_same else Counts(),
    )


def _sizes(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
