"""Lower precision, OpenVINO and the preprocessing as a network: what goes in and comes out, and what is refused."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cls.errors import ExportError
from cls.exporting.convert import write_openvino
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.end_to_end import InputStage
from cls.exporting.formats.files import DEFAULT_FORMATS, FILES, FORMATS, in_order, why_not
from cls.exporting.formats.onnx import load_onnx
from cls.exporting.formats.onnx_fp16 import write_onnx_fp16
from cls.exporting.formats.onnx_int8 import Quantiser
from cls.people.preprocess import Cutout, Preprocessing
from tests.exporting.networks import answers, small_network

SIZE = Preprocessing(32, 24)


@pytest.fixture
def images() -> CalibrationImages:
    return CalibrationImages(np.random.default_rng(0).normal(size=(20, 3, 32, 24)).astype(np.float32))


def test_every_format_has_files_of_its_own() -> None:
    names = [name for files in FILES.values() for name in (*files.files, files.archive)]
    assert len(names) == len(set(names))
    assert all(len(files.files) == len(files.inner) for files in FILES.values())
    assert in_order(["trt_fp16", "onnx_fp16", "onnx", "onnx"]) == ("onnx", "onnx_fp16", "trt_fp16")
    assert set(DEFAULT_FORMATS) <= set(FORMATS)
    assert "of one size" in (why_not("trt", is_end_to_end=True) or "")


def test_half_precision_keeps_its_ends_and_halves_its_weights(images: CalibrationImages, tmp_path: Path) -> None:
    expected = small_network(tmp_path / "model.onnx")
    assert write_onnx_fp16(tmp_path / "model.onnx", images, tmp_path / "half.onnx") == ()
    model = onnx.load(tmp_path / "half.onnx")
    ends = [*model.graph.input, *model.graph.output]
    assert [end.type.tensor_type.elem_type for end in ends] == [TensorProto.FLOAT] * 2
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT16}
    assert [prop.key for prop in model.metadata_props] == ["labels"]
    np.testing.assert_allclose(answers(tmp_path / "half.onnx"), expected, atol=0.02)
    kept = write_onnx_fp16(tmp_path / "model.onnx", images, tmp_path / "part.onnx", kept_share=0.5)
    assert kept == ("conv_first", "relu", "conv_second")


def test_layers_that_stay_in_float_are_calculated_in_float(images: CalibrationImages, tmp_path: Path) -> None:
    source, part = tmp_path / "model.onnx", tmp_path / "part.onnx"
    expected = small_network(source)
    model = onnx.load(source)
    # As torch's exporter does: the weights are listed among the values, too.
    model.graph.value_info.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims) for tensor in model.graph.initializer
    )
    onnx.save(model, source)
    assert write_onnx_fp16(source, images, part, kept_share=0.5) == ("conv_first", "relu", "conv_second")
    found = onnx.load(part)
    types = {tensor.name: tensor.data_type for tensor in found.graph.initializer}
    float32, float16 = TensorProto.FLOAT, TensorProto.FLOAT16
    assert types == {"first": float32, "second": float32, "head": float16}
    # The picture goes in as it comes, neighbours hand on float32, and there is one step down and one up at the end.
    assert [node.op_type for node in found.graph.node] == [
        "Conv", "Relu", "Conv", "Cast", "GlobalAveragePool", "Flatten", "Gemm", "Cast",
    ]  # fmt: skip
    error = np.abs(answers(part) - expected).max()
    write_onnx_fp16(source, images, tmp_path / "half.onnx")
    assert 0 < error < np.abs(answers(tmp_path / "half.onnx") - expected).max()


@pytest.mark.parametrize(("gain", "words"), [(1e5, "weight 'first'"), (1e4, "values of 'a'")])
def test_an_overflow_of_half_precision_is_found_and_named(
    images: CalibrationImages, tmp_path: Path, gain: float, words: str
) -> None:
    expected = small_network(tmp_path / "model.onnx", gain=gain)
    assert np.isfinite(expected).all()  # nothing is wrong with it in float32
    with pytest.raises(ExportError) as caught:
        write_onnx_fp16(tmp_path / "model.onnx", images, tmp_path / "half.onnx")
    assert caught.value.code == "export.fp16_overflow"
    assert words in caught.value.what
    assert not (tmp_path / "half.onnx").exists()


def test_eight_bits_with_more_and_more_in_float(images: CalibrationImages, tmp_path: Path) -> None:
    expected = small_network(tmp_path / "model.onnx")
    quantiser = Quantiser(tmp_path / "model.onnx", images, tmp_path)
    assert quantiser.write(tmp_path / "all.onnx") == ()
    model = onnx.load(tmp_path / "all.onnx")
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    assert "labels" in {prop.key for prop in model.metadata_props}
    error = np.abs(answers(tmp_path / "all.onnx") - expected).max()
    assert 0 < error < 0.3
    kept = quantiser.write(tmp_path / "part.onnx", kept_share=0.7)
    assert kept == ("conv_first", "conv_second")
    part = onnx.load(tmp_path / "part.onnx")
    # Nothing from the picture to the last layer in float is rounded, what stands between the layers neither.
    first = next(place for place, node in enumerate(part.graph.node) if node.op_type == "QuantizeLinear")
    before = [node.op_type for node in part.graph.node[:first] if node.op_type != "DequantizeLinear"]
    assert before == ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten"]
    assert np.abs(answers(tmp_path / "part.onnx") - expected).max() < error
    again = Quantiser(tmp_path / "model.onnx", images, tmp_path)
    again.write(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "all.onnx").read_bytes()


def test_openvino_has_the_same_bytes_again_and_reports_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_network(tmp_path / "model.onnx")
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    for name in ("one", "two"):
        write_openvino(tmp_path / "model.onnx", tmp_path / f"{name}.xml")
    assert not asked
    assert (tmp_path / "one.xml").read_bytes() == (tmp_path / "two.xml").read_bytes()
    assert (tmp_path / "one.bin").read_bytes() == (tmp_path / "two.bin").read_bytes()
    text = (tmp_path / "one.xml").read_text()
    assert "labels" in text
    assert str(tmp_path) not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.onnx",
        "one.bin",
        "one.xml",
        "two.bin",
        "two.xml",
    ]


def test_weights_beside_the_graph_are_read_whole_or_refused(tmp_path: Path) -> None:
    small_network(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    outside = tmp_path / "outside.onnx"
    onnx.save(model, outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    read = load_onnx(outside)
    for there, here in zip(read.graph.initializer, onnx.load(tmp_path / "model.onnx").graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(there), numpy_helper.to_array(here))
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ExportError) as caught:
        load_onnx(outside)
    assert caught.value.code == "export.cut_short"
    assert caught.value.where == str(weights)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 9), st.sampled_from((1, 2)))
def test_the_preprocessing_inside_is_the_preprocessing_outside(
    height: int, width: int, seed: int, version: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    size = replace(SIZE, version=version, is_background_kept=True)
    stage = InputStage(size)
    normal = stage(torch.from_numpy(picture[None]))
    levels = ((normal * stage.std + stage.mean) * 255)[0].permute(1, 2, 0).numpy()
    expected = size.fit(Cutout(picture, np.zeros((height, width), np.uint8))).astype(np.float32)
    # Version 1 interpolates in whole numbers of 11 bits, halves may be rounded apart: a level at most, and that seldom.
    assert np.abs(levels - expected).max() < 1.01


def test_a_cut_out_of_the_right_size_goes_in_unchanged() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (2, 32, 24, 3), np.uint8)
    np.testing.assert_allclose(InputStage(SIZE)(torch.from_numpy(picture)).numpy(), SIZE.normalise(picture), atol=1e-6)
