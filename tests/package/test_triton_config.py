from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.errors import PackageError
from cls.package.triton_config import (
    MAX_BATCH_SIZE,
    build_config,
    config_as_json,
    parse_config,
    parse_config_json,
    with_meta,
    with_name,
    with_versions,
)
from tests.package.metas import make_meta


@given(labels=st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
def test_config_carries_the_meta_of_any_labels(labels: list[str]) -> None:
    meta = make_meta(tuple(labels))
    config = parse_config(build_config(meta))
    assert config.meta() == meta
    assert config.inputs[0].shape == (-1, 3, 64, 48)
    assert config.outputs[0].shape == (-1, len(labels))


def test_config_of_each_kind() -> None:
    onnx = parse_config(build_config(make_meta()))
    plan = parse_config(build_config(make_meta(), "tensorrt_plan"))
    assert (onnx.model_file_name, plan.model_file_name) == ("model.onnx", "model.plan")
    assert onnx.max_batch_size == MAX_BATCH_SIZE
    assert onnx.name == ""
    assert "KIND_GPU" in build_config(make_meta(), "tensorrt_plan")
    assert "count: 1" in build_config(make_meta())


def test_openvino_takes_any_batch() -> None:
    """With a `max_batch_size`, Triton's OpenVINO backend refuses every other batch (its src/openvino.cc)."""
    text = build_config(make_meta(), "openvino")
    config = parse_config(text)
    assert (config.backend, config.platform, config.model_file_name) == ("openvino", "", "model.xml")
    assert config.max_batch_size == 0
    assert [tensor.shape for tensor in config.inputs] == [tensor.shape for tensor in make_meta().inputs]
    assert config.inputs[0].shape[0] == -1
    assert "dynamic_batching" not in text


def test_edits_keep_the_rest() -> None:
    meta = make_meta()
    published = meta.with_model_version("0.0.2")
    text = with_meta(with_name(with_versions(build_config(meta), (3,)), "hair"), published.to_json())
    config = parse_config(text)
    assert (config.name, config.version_numbers) == ("hair", (3,))
    assert config.meta().model_version == "0.0.2"
    assert parse_config(with_versions(text, ())).version_numbers == ()


def test_config_over_http_is_the_same() -> None:
    text = with_versions(build_config(make_meta()), (1, 12))
    assert parse_config_json(json.loads(config_as_json(text)), "http://x") == parse_config(text)


def test_foreign_config_without_meta() -> None:
    config = parse_config('backend: "onnxruntime" input { name: "x" data_type: TYPE_INT64 dims: [4] }')
    assert config.inputs[0].datatype == "INT64"
    with pytest.raises(PackageError) as caught:
        config.meta()
    assert caught.value.code == "package.missing_parameter"
    assert "cls_meta" in caught.value.what


@pytest.mark.parametrize("text", ["max_batch_size: lots", "nonsense {", "unknown_field: 3"])
def test_bad_text_is_named_with_line_and_column(text: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_config(text, "zip!config")
    assert caught.value.code == "package.invalid_config"
    assert caught.value.where == "zip!config"
    assert re.search(r"1:\d+", caught.value.what)


@pytest.mark.parametrize("content", [[], {"max_batch_size": "many"}, 3])
def test_bad_json_is_refused(content: object) -> None:
    with pytest.raises(PackageError):
        parse_config_json(content, "http://x")
