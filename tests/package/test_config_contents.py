"""Every field of the config.pbtxt that is written, spelled out: Triton takes a wrong one without a word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from cls.errors import PackageError
from cls.package.meta import ModelMeta
from cls.package.triton_config import (
    CONFIG_FILE_NAME,
    MAX_BATCH_SIZE,
    MODEL_FILE_NAMES,
    Platform,
    build_config,
    config_as_json,
    digest_of_config,
    parse_config,
    parse_config_json,
    with_meta,
    with_name,
    with_versions,
)
from tests.package.metas import make_meta

BATCHED = """
    max_batch_size: 64
    input { name: "images" data_type: TYPE_FP32 dims: [3, 64, 48] }
    output { name: "logits" data_type: TYPE_FP32 dims: [3] }
    version_policy { latest { num_versions: 1 } }
    dynamic_batching { preferred_batch_size: [8, 16, 32, 64] max_queue_delay_microseconds: 500 }
    model_warmup {
        name: "one picture" batch_size: 1
        inputs { key: "images" value { data_type: TYPE_FP32 dims: [3, 64, 48] zero_data: true } }
    }
"""
UNBATCHED = """
    backend: "openvino"
    input { name: "images" data_type: TYPE_FP32 dims: [-1, 3, 64, 48] }
    output { name: "logits" data_type: TYPE_FP32 dims: [-1, 3] }
    version_policy { latest { num_versions: 1 } }
    instance_group { count: 1 kind: KIND_CPU }
    model_warmup {
        name: "one picture" batch_size: 1
        inputs { key: "images" value { data_type: TYPE_FP32 dims: [1, 3, 64, 48] zero_data: true } }
    }
"""
EXPECTED: dict[Platform, str] = {
    "onnxruntime_onnx": f'platform: "onnxruntime_onnx" instance_group {{ count: 1 kind: KIND_AUTO }} {BATCHED}',
    "tensorrt_plan": f'platform: "tensorrt_plan" instance_group {{ count: 1 kind: KIND_GPU }} {BATCHED}',
    "pytorch_libtorch": f'platform: "pytorch_libtorch" instance_group {{ count: 1 kind: KIND_AUTO }} {BATCHED}',
    "openvino": UNBATCHED,
}


def message(text: str) -> Any:
    return text_format.Parse(text, pb.ModelConfig())


def end_to_end() -> ModelMeta:
    return make_meta(
        inputs=[{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        outputs=[{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    )


@pytest.mark.parametrize(("platform", "expected"), EXPECTED.items())
def test_every_field(platform: Platform, expected: str) -> None:
    meta = make_meta()
    found = message(build_config(meta, platform))
    assert list(found.parameters) == ["cls_meta"]
    assert found.parameters["cls_meta"].string_value == meta.to_json()
    found.parameters.clear()
    assert found == message(expected)


@pytest.mark.parametrize("platform", MODEL_FILE_NAMES)
def test_one_picture_of_the_height_and_width_is_warmed_up_where_any_size_is_taken(platform: Platform) -> None:
    config = message(build_config(end_to_end(), platform))
    batch = [-1] if platform == "openvino" else []
    assert list(config.input[0].dims) == [*batch, -1, -1, 3]
    assert config.input[0].data_type == pb.TYPE_UINT8
    sample = config.model_warmup[0].inputs["images"]
    assert list(sample.dims) == [*(abs(axis) for axis in batch), 64, 48, 3]
    assert sample.data_type == pb.TYPE_UINT8


def test_onnx_is_the_default() -> None:
    assert build_config(make_meta()) == build_config(make_meta(), "onnxruntime_onnx")


def test_names_of_files() -> None:
    assert (CONFIG_FILE_NAME, MAX_BATCH_SIZE) == ("config.pbtxt", 64)
    assert MODEL_FILE_NAMES == {
        "onnxruntime_onnx": "model.onnx",
        "tensorrt_plan": "model.plan",
        "pytorch_libtorch": "model.pt",
        "openvino": "model.xml",
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [(f'platform: "{platform}"', name) for platform, name in MODEL_FILE_NAMES.items() if platform != "openvino"]
    + [('backend: "tensorrt"', "model.plan"), ('backend: "pytorch"', "model.pt"), ('backend: "openvino"', "model.xml")]
    + [('backend: "onnxruntime"', "model.onnx"), ("", "model.onnx")],
)
def test_the_file_that_a_config_is_for(text: str, name: str) -> None:
    assert parse_config(text).model_file_name == name


def test_everything_that_is_read() -> None:
    config = parse_config("""
        name: "hair" platform: "p" backend: "b" max_batch_size: 3
        input { name: "a" data_type: TYPE_UINT8 dims: [5, 6] } input { name: "c" data_type: TYPE_INT64 dims: [] }
        output { name: "d" data_type: TYPE_FP16 dims: [7] }
        version_policy { specific { versions: [4, 9] } }
        parameters { key: "k" value { string_value: "v" } }
    """)
    assert (config.name, config.platform, config.backend, config.max_batch_size) == ("hair", "p", "b", 3)
    assert [(t.name, t.datatype, t.shape) for t in config.inputs] == [("a", "UINT8", (-1, 5, 6)), ("c", "INT64", (-1,))]
    assert [(t.name, t.datatype, t.shape) for t in config.outputs] == [("d", "FP16", (-1, 7))]
    assert (config.version_numbers, config.parameters) == ((4, 9), {"k": "v"})
    assert parse_config('input { name: "a" dims: [5] }').inputs[0].shape == (5,), "the batch is an ordinary axis"
    assert parse_config('max_batch_size: 1 input { name: "a" dims: [5] }').inputs[0].shape == (-1, 5)


def test_the_digest_leaves_out_what_a_storage_writes_and_nothing_else() -> None:
    text = build_config(make_meta())
    digest = digest_of_config(text)
    assert digest == digest_of_config(with_name(text, "hair"))
    assert digest == digest_of_config(with_versions(text, (3, 4)))
    assert digest == digest_of_config(with_meta(text, "{}"))
    without = message(text)
    del without.parameters["cls_meta"]
    assert digest == digest_of_config(text_format.MessageToString(without))
    others = [
        text + 'parameters { key: "k" value { string_value: "v" } }',
        text.replace("max_batch_size: 64", "max_batch_size: 32"),
        text.replace("count: 1", "count: 2"),
        text.replace("zero_data: true", "zero_data: false"),
        build_config(make_meta(), "tensorrt_plan"),
    ]
    assert len({digest, *map(digest_of_config, others)}) == 6


def test_versions_name_and_meta_replace_what_was_there() -> None:
    text = with_versions(with_versions(build_config(make_meta()), (1, 2)), (5,))
    assert list(message(text).version_policy.specific.versions) == [5]
    newest = message(with_versions(text, ()))
    assert not newest.HasField("version_policy")
    assert message(with_name(with_name(text, "a"), "цвет")).name == "цвет"
    assert "цвет" in with_name(text, "цвет"), "readable text, not octal escapes"
    assert parse_config(with_meta(text, "{}")).parameters == {"cls_meta": "{}"}


def test_as_json_with_the_names_and_zeros_of_the_protocol() -> None:
    content = json.loads(config_as_json('name: "hair" input { name: "a" data_type: TYPE_FP32 dims: [5] }'))
    assert (content["name"], content["max_batch_size"], content["platform"]) == ("hair", 0, "")
    assert content["input"][0]["data_type"] == "TYPE_FP32"
    assert content["input"][0]["dims"] == [5]
    assert parse_config_json({**content, "of_later_versions": 1}, "http://x") == parse_config_json(content, "http://x")


@pytest.mark.parametrize("content", [[], 3, {"max_batch_size": "many"}])
def test_errors_name_where(content: object) -> None:
    with pytest.raises(PackageError) as caught:
        parse_config_json(content, "http://x")
    assert caught.value.code == "package.invalid_config"
    assert caught.value.where == "http://x"
    for read in (parse_config, digest_of_config, config_as_json):
        with pytest.raises(PackageError) as caught:
            read("nonsense {")
        assert caught.value.code == "package.invalid_config"
        assert caught.value.where == "config.pbtxt"
    with pytest.raises(PackageError) as caught:
        parse_config("").meta()
    assert caught.value.code == "package.missing_parameter"
    assert caught.value.where == "config.pbtxt"
    assert "'cls_meta'" in caught.value.what
