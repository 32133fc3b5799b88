"""Weights that are not those of the network that a conversion was made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cls.errors import ParityFault
from cls.exporting.convert import write_openvino
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.end_to_end import NETWORK_PREFIX
from cls.exporting.formats.onnx_fp16 import write_onnx_fp16
from cls.exporting.formats.onnx_int8 import Quantiser
from cls.exporting.parity.layers import _as_dequantised, _channels_beyond, weight_faults
from tests.exporting.networks import small_network


class Converted:
    """A small network with its half-precision and 8-bit conversions."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "model.onnx"
        small_network(self.source)
        images = CalibrationImages(np.random.default_rng(0).normal(size=(20, 3, 32, 24)).astype(np.float32))
        self.half, self.eight, self.part = (folder / f"{name}.onnx" for name in ("half", "eight", "part"))
        write_onnx_fp16(self.source, images, self.half)
        quantiser = Quantiser(self.source, images, folder)
        quantiser.write(self.eight)
        quantiser.write(self.part, kept_share=0.4)
        symmetric = folder / "symmetric"
        symmetric.mkdir()
        self.signed = folder / "signed.onnx"
        Quantiser(self.source, images, symmetric, is_symmetric=True).write(self.signed)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("weights"))


def damaged(path: Path, name: str, change: Callable[[NDArray[np.generic]], None]) -> Path:
    model = onnx.load(path)
    (tensor,) = [one for one in model.graph.initializer if one.name == name]
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    target = path.with_name("damaged.onnx")
    onnx.save(model, target)
    return target


def test_weights_that_are_rounded_are_those_of_the_network(converted: Converted) -> None:
    for file in (converted.source, converted.half, converted.eight, converted.part, converted.signed):
        assert weight_faults(converted.source, file) == []


def layers(faults: list[ParityFault]) -> str:
    """The layers and channels that the one fault names."""
    (fault,) = faults
    assert fault.code == "parity.weights_differ"
    return fault.partition(": ")[2]


def zero(*channels: int) -> Callable[[NDArray[np.generic]], None]:
    def change(values: NDArray[np.generic]) -> None:
        values[list(channels)] = 0

    return change


def test_a_channel_at_zero_is_found_in_every_precision(converted: Converted) -> None:
    for file, name in (
        (converted.source, "second"),
        (converted.half, "second"),
        (converted.eight, "second_quantized"),
        (converted.signed, "second_quantized"),
    ):
        assert layers(weight_faults(converted.source, damaged(file, name, zero(4)))) == "second (channel 4)"
    several = weight_faults(converted.source, damaged(converted.eight, "second_quantized", zero(1, 2, 5)))
    assert layers(several) == "second (channel 1 and 2 more)"


def test_weights_of_openvino_are_looked_at_too(converted: Converted, tmp_path: Path) -> None:
    graph = tmp_path / "model.xml"
    for file, name in (
        (converted.source, "second"),
        (converted.eight, "second_quantized"),
        (converted.part, "second"),
        (converted.signed, "second_quantized"),
    ):
        write_openvino(file, graph)
        assert weight_faults(converted.source, graph) == []
        write_openvino(damaged(file, name, zero(4)), graph)
        assert layers(weight_faults(converted.source, graph)) == "second (channel 4)"


def test_other_damages_of_weights(converted: Converted) -> None:
    def one_step(values: NDArray[np.generic]) -> None:
        values[3, 0, 1, 1] = values[3, 0, 1, 1] - 1 if values[3, 0, 1, 1] > 0 else values[3, 0, 1, 1] + 1

    def scaled(values: NDArray[np.generic]) -> None:
        values[1] *= np.float32(1.1)

    def not_a_number(values: NDArray[np.generic]) -> None:
        values[0] = np.nan

    for file, name, change in (
        (converted.eight, "second_quantized", one_step),
        (converted.eight, "head_scale", scaled),
        (converted.half, "head", scaled),
        (converted.source, "head", not_a_number),
    ):
        assert len(weight_faults(converted.source, damaged(file, name, change))) == 1


def test_the_first_layers_are_named_end_to_end_too(converted: Converted, tmp_path: Path) -> None:
    model = onnx.load(converted.source)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1), tensor.name))
    whole = onnx.compose.add_prefix(model, NETWORK_PREFIX)
    onnx.save(whole, tmp_path / "whole.onnx")
    (fault,) = weight_faults(converted.source, tmp_path / "whole.onnx")
    assert " 3 layers " in fault
    assert layers([fault]) == (
        "first (channel 0 and 3 more), second (channel 0 and 5 more), head (channel 0 and 1 more)"
    )
    # Tensors under other names, of other shapes or other types say nothing.
    shapes = onnx.load(converted.source)
    for tensor in shapes.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values[..., :1] if tensor.name == "head" else values[:2], tensor.name))
    onnx.save(shapes, tmp_path / "shapes.onnx")
    assert weight_faults(converted.source, tmp_path / "shapes.onnx") == []
    for tensor in model.graph.initializer:
        tensor.name += "_other"
    onnx.save(model, tmp_path / "other.onnx")
    assert weight_faults(converted.source, tmp_path / "other.onnx") == []


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_steps_are_those_of_their_axis(tmp_path: Path, axis: int) -> None:
    levels = np.array([[1, 20], [-3, 40], [5, -60]], np.int8)
    scale = np.array([0.1, 0.01, 1.0][: levels.shape[axis]], np.float32)
    right = levels * (scale[:, None] if axis == 0 else scale)
    copied = helper.make_node("Identity", ["w"], ["y"])
    source = helper.make_graph([copied], "x", [], [], [numpy_helper.from_array(np.float32(right), "w")])
    onnx.save(helper.make_model(source), tmp_path / "source.onnx")
    tensors = {"w_quantized": levels, "scale": scale, "zero": np.zeros(len(scale), np.int8)}

    def faults() -> list[ParityFault]:
        node = helper.make_node("DequantizeLinear", ["w_quantized", "scale", "zero"], ["w"], axis=axis)
        values = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
        onnx.save(helper.make_model(helper.make_graph([node], "x", [], [], values)), tmp_path / "eight.onnx")
        return weight_faults(tmp_path / "source.onnx", tmp_path / "eight.onnx")

    assert faults() == []
    tensors["w_quantized"] = levels + np.array([[0, 0], [0, 1], [0, 0]], np.int8)
    assert layers(faults()) == "w (channel 1)"


def test_a_weight_that_is_too_small_is_as_wrong_as_one_too_large() -> None:
    right, allowed = np.ones((3, 2)), np.full((3, 2), 0.1)
    for change in (0.2, -0.2):
        found = right.copy()
        found[1, 0] += change
        assert _channels_beyond(right, found, allowed) == [1]


def test_weights_may_be_off_by_the_rounding_of_half_precision(tmp_path: Path) -> None:
    # Half-way between two numbers of half precision, and smaller than any of them: the largest errors of rounding.
    right = np.array([[1 + 2**-11, 2 * (1 + 2**-11)], [-(1 + 2**-11), 2**-25]], np.float32)

    def written(name: str, values: NDArray[np.generic]) -> Path:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["w"], ["y"])], "x", [], [], [numpy_helper.from_array(values, "w")]
        )
        onnx.save(helper.make_model(graph), tmp_path / name)
        return tmp_path / name

    source, half = written("source.onnx", right), right.astype(np.float16)
    assert half[0, 0] == 1
    assert weight_faults(source, written("half.onnx", half)) == []
    for place, value in (((0, 1), 2 * (1 - 2**-10)), ((1, 1), 5e-7)):
        other = half.copy()
        other[place] = value
        assert layers(weight_faults(source, written("other.onnx", other))) == f"w (channel {place[0]})"
    assert layers(weight_faults(source, written("float.onnx", half.astype(np.float32)))) == ("w (channel 0 and 1 more)")


def test_the_first_four_layers_are_named(tmp_path: Path) -> None:
    def written(name: str, value: float) -> Path:
        tensors = [numpy_helper.from_array(np.full((2, 2), value, np.float32), f"layer_{n}") for n in range(6)]
        graph = helper.make_graph([helper.make_node("Identity", ["layer_0"], ["y"])], "x", [], [], tensors)
        onnx.save(helper.make_model(graph), tmp_path / name)
        return tmp_path / name

    (fault,) = weight_faults(written("source.onnx", 1.0), written("other.onnx", 2.0))
    assert " 6 layers " in fault
    named = [f"layer_{n} (channel 0 and 1 more)" for n in range(4)]
    assert layers([fault]) == f"{', '.join(named)} and 2 more"


def test_levels_count_from_their_zero() -> None:
    values, allowed = _as_dequantised(np.array([130, 120], np.uint8), np.float64(0.5), np.float64(128))
    np.testing.assert_array_equal(values, [1.0, -4.0])
    np.testing.assert_allclose(allowed, [0.255, 0.255])
