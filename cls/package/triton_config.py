"""config.pbtxt, written and read through Triton's own protobuf."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cls.errors import PackageError
from cls.files import sha256_of_bytes
from cls.package.meta import ModelMeta, TensorMeta, parse_meta_text

if TYPE_CHECKING:
    # The message type is generated code without annotations.
    ModelConfig = Any

CONFIG_FILE_NAME = "config.pbtxt"
META_PARAMETER = "cls_meta"
MAX_BATCH_SIZE = 64
# Triton's `platform`; OpenVINO has none there and is named by `backend`.
Platform = Literal["onnxruntime_onnx", "tensorrt_plan", "pytorch_libtorch", "openvino"]
MODEL_FILE_NAMES: dict[str, str] = {
    "onnxruntime_onnx": "model.onnx",
    "tensorrt_plan": "model.plan",
    "pytorch_libtorch": "model.pt",
    "openvino": "model.xml",
}
# 64-bit numbers, which protobuf writes as text and Triton as numbers.
_NUMBER_LISTS = ("dims", "versions", "shape")
_QUEUE_DELAY_US = 500
# A request waits up to the delay above for others, unless so many pictures are there already. 8 is what plans are
# tuned for; the powers of two above it let a burst go through in one go.
_PREFERRED_BATCH_SIZES = (8, 16, 32, MAX_BATCH_SIZE)
# Triton's OpenVINO backend makes `max_batch_size` the only batch the network takes, whatever it took before; without
# one the batch is an axis like the others, of any size, and Triton puts no requests together.
_WITHOUT_BATCHING = ("openvino",)
_KINDS = {"tensorrt_plan": "KIND_GPU", "openvino": "KIND_CPU"}


@dataclass(frozen=True)
class TritonConfig:
    """What a config.pbtxt says, as far as serving and using the model needs it.

    Attributes:
        name: the model's name; empty when the folder's name counts.
        platform: `onnxruntime_onnx`, `tensorrt_plan`, or empty when only `backend` is given.
        backend: e.g. `onnxruntime`; empty when only `platform` is given.
        max_batch_size: 0 when the batch is an ordinary axis.
        inputs: names, types and shapes; with the batch as -1 in front where Triton adds it.
        outputs: the same.
        version_numbers: the versions served; empty for the newest.
        parameters: key -> text.
    """

    name: str
    platform: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorMeta, ...]
    outputs: tuple[TensorMeta, ...]
    version_numbers: tuple[int, ...]
    parameters: dict[str, str]

    @property
    def model_file_name(self) -> str:
        """`model.onnx`, `model.plan`, `model.pt` or `model.xml`."""
        if self.platform == "tensorrt_plan" or self.backend == "tensorrt":
            return "model.plan"
        if self.platform == "pytorch_libtorch" or self.backend == "pytorch":
            return "model.pt"
        if self.backend == "openvino":
            return "model.xml"
        return "model.onnx"

    def meta(self, where: object = CONFIG_FILE_NAME) -> ModelMeta:
        """The meta.json carried along.

        Raises:
            PackageError: there is none, or it is broken.
        """
        if META_PARAMETER not in self.parameters:
            raise PackageError(
                f"carries no parameter '{META_PARAMETER}'",
                code="missing_parameter",
                where=where,
                hint="publish a package that `cls export` made",
            )
        return parse_meta_text(self.parameters[META_PARAMETER], where)


def build_config(meta: ModelMeta, platform: Platform = "onnxruntime_onnx") -> str:
    """The text of a config.pbtxt for a package.

    The model's name is left out, so that the folder it is put into names it; the newest version folder is served until
    somebody chooses. The batch is Triton's own (`max_batch_size`), requests are batched dynamically (but for OpenVINO,
    whose backend would take batches of that very size alone), one instance runs
    (Triton's default of two a model doubles the memory): on a GPU for a plan, on the CPU for OpenVINO, wherever Triton
    sees fit for the others. One picture of zeros is classified before the model counts as ready, so that the first
    request does not pay for what a runtime does once. meta.json travels as the parameter `cls_meta`, so that whoever
    reaches only the inference server can use the model.
    """
    from tritonclient.grpc import model_config_pb2 as pb

    engine = {"backend": platform} if platform == "openvino" else {"platform": platform}
    is_batched = platform not in _WITHOUT_BATCHING
    first = 1 if is_batched else 0
    config = pb.ModelConfig(**engine, max_batch_size=MAX_BATCH_SIZE if is_batched else 0)
    for tensor in meta.inputs:
        config.input.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.shape[first:])
    for tensor in meta.outputs:
        config.output.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.shape[first:])
    config.version_policy.latest.num_versions = 1
    if is_batched:
        config.dynamic_batching.preferred_batch_size.extend(_PREFERRED_BATCH_SIZES)
        config.dynamic_batching.max_queue_delay_microseconds = _QUEUE_DELAY_US
    config.instance_group.add(count=1, kind=getattr(pb.ModelInstanceGroup, _KINDS.get(platform, "KIND_AUTO")))
    warmup = config.model_warmup.add(name="one picture", batch_size=1)
    for tensor in meta.inputs:
        sample = warmup.inputs[tensor.name]
        sample.data_type, sample.zero_data = _data_type(tensor), True
        sample.dims.extend((1, *_shape_of_one(tensor, meta))[first:])
    config.parameters[META_PARAMETER].string_value = meta.to_json()
    return _text_of(config)


def _shape_of_one(tensor: TensorMeta, meta: ModelMeta) -> tuple[int, ...]:
    """A picture's shape; where any size is taken, the size that the preprocessing makes."""
    if meta.is_end_to_end:
        return (meta.preprocessing.height_px, meta.preprocessing.width_px, 3)
    return tensor.shape[1:]


def digest_of_config(text: str, where: object = CONFIG_FILE_NAME) -> str:
    """The SHA-256 of what a config.pbtxt says of the model itself.

    Its name, its version policy and the meta.json in it are left out: a storage writes its own, and meta.json, which
    holds this digest, cannot hold the digest of itself.

    Raises:
        PackageError: it is not a config.pbtxt.
    """
    config = _message_of(text, where)
    config.ClearField("name")
    config.ClearField("version_policy")
    config.parameters.pop(META_PARAMETER, None)
    return sha256_of_bytes(config.SerializeToString(deterministic=True))


def parse_config(text: str, where: object = CONFIG_FILE_NAME) -> TritonConfig:
    """Reads the text of a config.pbtxt.

    Raises:
        PackageError: it is not a config.pbtxt; names line and column.
    """
    return _parsed(_message_of(text, where))


def parse_config_json(content: Any, where: object) -> TritonConfig:
    """Reads what an inference server answers to `GET /v2/models/NAME/config`.

    Raises:
        PackageError: it is not a model configuration.
    """
    from google.protobuf import json_format
    from tritonclient.grpc import model_config_pb2 as pb

    if not isinstance(content, dict):
        raise PackageError(
            f"is not a Triton model configuration: {type(content).__name__}", code="invalid_config", where=where
        )
    try:
        config = json_format.ParseDict(content, pb.ModelConfig(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise PackageError(
            f"is not a Triton model configuration: {error}", code="invalid_config", where=where
        ) from error
    return _parsed(config)


def config_as_json(text: str, where: object = CONFIG_FILE_NAME) -> str:
    """A config.pbtxt as `GET /v2/models/NAME/config` answers it: JSON with numbers as numbers.

    Raises:
        PackageError: it is not a config.pbtxt.
    """
    from google.protobuf import json_format

    content = json_format.MessageToDict(
        _message_of(text, where), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(_with_numbers(content))


def _with_numbers(value: Any) -> Any:
    """JSON of protobuf, which writes 64-bit numbers as text, as Triton answers it."""
    if isinstance(value, dict):
        return {
            key: [int(size) for size in item]
            if key in _NUMBER_LISTS and isinstance(item, list)
            else _with_numbers(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return value


def with_versions(text: str, version_numbers: tuple[int, ...], where: object = CONFIG_FILE_NAME) -> str:
    """The same config.pbtxt, serving exactly these version folders (none: the newest one)."""
    config = _message_of(text, where)
    config.ClearField("version_policy")
    if version_numbers:
        config.version_policy.specific.versions.extend(version_numbers)
    return _text_of(config)


def with_name(text: str, name: str, where: object = CONFIG_FILE_NAME) -> str:
    """The same config.pbtxt for a model folder of this name; Triton refuses a name that is not the folder's."""
    config = _message_of(text, where)
    config.name = name
    return _text_of(config)


def with_meta(text: str, meta_text: str, where: object = CONFIG_FILE_NAME) -> str:
    """The same config.pbtxt, carrying another meta.json (e.g. with the published version in it)."""
    config = _message_of(text, where)
    config.parameters[META_PARAMETER].string_value = meta_text
    return _text_of(config)


def _message_of(text: str, where: object) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise PackageError(f"is not a config.pbtxt: {error}", code="invalid_config", where=where) from error


def _text_of(config: Any) -> str:
    from google.protobuf import text_format

    return str(text_format.MessageToString(config, as_utf8=True))


def _parsed(config: Any) -> TritonConfig:
    batch = (-1,) if config.max_batch_size > 0 else ()
    return TritonConfig(
        name=config.name,
        platform=config.platform,
        backend=config.backend,
        max_batch_size=config.max_batch_size,
        inputs=tuple(_tensor(item, batch) for item in config.input),
        outputs=tuple(_tensor(item, batch) for item in config.output),
        version_numbers=tuple(config.version_policy.specific.versions),
        parameters={key: value.string_value for key, value in config.parameters.items()},
    )


def _data_type(tensor: TensorMeta) -> Any:
    from tritonclient.grpc import model_config_pb2 as pb

    return pb.DataType.Value(f"TYPE_{tensor.datatype}")


def _tensor(item: Any, batch: tuple[int, ...]) -> TensorMeta:
    from tritonclient.grpc import model_config_pb2 as pb

    datatype = pb.DataType.Name(item.data_type).removeprefix("TYPE_")
    # Foreign models may use types that our packages do not: `model_construct` keeps their name without judging it.
    return TensorMeta.model_construct(name=item.name, datatype=datatype, shape=(*batch, *item.dims))
