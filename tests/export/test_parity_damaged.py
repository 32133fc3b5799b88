"""Conversions damaged in ways that hardly change a decision, and end-to-end models that resize otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cls.errors import ParityError, PredictionError
from cls.export import end_to_end
from cls.export.calibration_images import CalibrationImages
from cls.export.end_to_end import NETWORK_PREFIX, NORMALISED, EndToEnd
from cls.export.onnx_fp16 import write_onnx_fp16
from cls.export.onnx_int8 import Quantiser
from cls.export.parity import compare_with
from cls.export.parity_samples import ParitySample, Reference, reference_of
from cls.export.parity_sizes import (
    AS_CUT_OUT,
    LARGER,
    MOST_PEOPLE,
    SMALLER,
    SizedCutouts,
    answers_of_sized,
    filled_cutout,
    fitted,
    level_faults,
    odd_sizes,
    size_results,
)
from cls.export.parity_weights import weight_faults
from cls.export.publish import classifier_of_run, export_run
from cls.people.cutout import Cutout, cut_out, on_flat_background
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing, inner_size, letterbox
from cls.prediction.local import TorchRuntime
from cls.prediction.runtime import Classifier
from cls.settings import PARITY_LIMITS
from tests.export.networks import small_network
from tests.export.runs import ExportedBottle
from tests.export.tables import PIXEL, Table, classifier
from tests.export.tables import reference as table_reference


@pytest.fixture(scope="module")
def reference(exported: ExportedBottle) -> Reference:
    people = exported.run.validation_samples()
    samples = [ParitySample(exported.bottle.picture(s.path), s.person, s.labels) for s in people]
    return reference_of(classifier_of_run(exported.run), samples)


class Changed:
    """The trained network with something done to its logits."""

    description = "changed"

    def __init__(self, reference: Reference, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.runtime, self.change = reference.trained.runtime, change

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.change(self.runtime.logits(images)), np.float32)


def with_logits(reference: Reference, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Classifier:
    return replace(reference.trained, runtime=Changed(reference, change))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("label", [0, 2])
@pytest.mark.parametrize("bias", [1.0, -0.8])
def test_a_bias_of_one_label(reference: Reference, precision: str, label: int, bias: float) -> None:
    shift = np.eye(3, dtype=np.float32)[label] * np.float32(bias)
    report = compare_with(reference, with_logits(reference, lambda logits: logits + shift), precision=precision)
    name = reference.trained.labels[label]
    assert any(fault.startswith("logits are shifted on average: ") and f"'{name}'" in fault for fault in report.faults)
    # The other labels are not blamed.
    assert not any(
        f"'{other}'" in fault for other in reference.trained.labels if other != name for fault in report.faults
    )
    assert report.causes == (f"the bias of one label is another: {bias:+.2f} for '{name}'",)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("factor", [0.6, 0.75, 1.3])
def test_a_factor_of_all_logits(reference: Reference, precision: str, factor: float) -> None:
    report = compare_with(reference, with_logits(reference, lambda logits: logits * factor), precision=precision)
    assert any(fault.startswith("logits differ, in their standard deviations: ") for fault in report.faults)
    assert report.causes == (f"the logits are multiplied by {factor:.2f}",)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounding_alone_passes(reference: Reference, precision: str) -> None:
    steps = {"fp16": 200.0, "int8": 8.0}[precision]
    report = compare_with(
        reference, with_logits(reference, lambda logits: np.round(logits * steps) / steps), precision=precision
    )
    assert report.faults == report.causes == ()


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


def zero(*channels: int) -> Callable[[NDArray[np.generic]], None]:
    def change(values: NDArray[np.generic]) -> None:
        values[list(channels)] = 0

    return change


def test_a_channel_at_zero_is_found_in_every_precision(converted: Converted) -> None:
    line = "the weights of 1 layer are not those of the trained network: second (channel 4)"
    assert weight_faults(converted.source, damaged(converted.source, "second", zero(4))) == [line]
    assert weight_faults(converted.source, damaged(converted.half, "second", zero(4))) == [line]
    assert weight_faults(converted.source, damaged(converted.eight, "second_quantized", zero(4))) == [line]
    assert weight_faults(converted.source, damaged(converted.signed, "second_quantized", zero(4))) == [line]
    (line,) = weight_faults(converted.source, damaged(converted.eight, "second_quantized", zero(1, 2, 5)))
    assert line.endswith(": second (channel 1 and 2 more)")


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
    (line,) = weight_faults(converted.source, tmp_path / "whole.onnx")
    assert line == (
        "the weights of 3 layers are not those of the trained network: first (channel 0 and 3 more),"
        " second (channel 0 and 5 more), head (channel 0 and 1 more)"
    )
    # Tensors under other names, of other shapes or other types say nothing.
    for tensor in model.graph.initializer:
        tensor.name += "_other"
    onnx.save(model, tmp_path / "other.onnx")
    assert weight_faults(converted.source, tmp_path / "other.onnx") == []


FRAMES = [(160, 160), (768, 288), (64, 48), (256, 192), (32, 24)]


@pytest.mark.parametrize(("height_px", "width_px"), FRAMES)
@pytest.mark.parametrize("factor", [2.4, 0.45])
def test_sizes_show_uneven_borders_and_every_rounding(height_px: int, width_px: int, factor: float) -> None:
    sizes = odd_sizes(height_px, width_px, factor)
    assert len(sizes) == 6
    for number, (height, width) in enumerate(sizes):
        inner = inner_size(height, width, height_px, width_px)
        scale = min(height_px / height, width_px / width)
        assert 0.25 < height * width / (height_px * width_px * factor**2 * 0.72) < 4
        # The borders are at the sides and above and below in turn.
        assert inner[number % 2] == (height_px, width_px)[number % 2]
        axis = 1 - number % 2
        border = (height_px, width_px)[axis] - inner[axis]
        assert border > 0
        exact = (height, width)[axis] * scale
        if number < 4:
            assert border % 2 == 1
            assert (inner[axis] > exact) is (number < 2)
        if (height_px, width_px) != (64, 48) and (height_px, width_px) != (32, 24) and number >= 4 and factor > 1:
            assert exact % 1 == 0.5
            assert (inner[axis] > exact) is (number == 5)


def test_people_are_asked_about_at_three_kinds_of_sizes(reference: Reference) -> None:
    own, larger, smaller = reference.sized
    assert [one.kind for one in reference.sized] == [AS_CUT_OUT, LARGER, SMALLER]
    assert reference.sized is reference.sized
    size = reference.trained.preprocessing
    for sized in reference.sized:
        assert sized.people.tolist() == list(range(12))
        assert sized.fitted_rgb.shape == (12, size.height_px, size.width_px, 3)
        for crop, fit in zip(sized.crops_rgb, sized.fitted_rgb, strict=True):
            np.testing.assert_array_equal(fit, letterbox(crop, size.height_px, size.width_px, size.fill_rgb))
        np.testing.assert_array_equal(sized.probs, reference.trained.probabilities(sized.fitted_rgb))
    sample = reference.samples[5]
    cutout = cut_out(read_photo(sample.file), sample.person, margin_rel=size.margin_rel)
    np.testing.assert_array_equal(own.crops_rgb[5], on_flat_background(cutout, size.fill_rgb))
    wanted = odd_sizes(size.height_px, size.width_px, 2.4)
    assert [crop.shape[:2] for crop in larger.crops_rgb] == [*wanted, *wanted]
    assert all(crop.shape[0] * crop.shape[1] < size.height_px * size.width_px for crop in smaller.crops_rgb)
    # The same people, resized.
    height, width = larger.crops_rgb[7].shape[:2]
    expected = cv2.resize(own.crops_rgb[7], (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(larger.crops_rgb[7], expected)


def test_where_only_cut_outs_are_at_hand_they_are_resized() -> None:
    bare = table_reference(np.linspace(0.1, 0.9, 60)[:, None].repeat(2, axis=1))
    assert [one.kind for one in bare.sized] == [LARGER, SMALLER]
    assert MOST_PEOPLE == 48
    assert len(bare.sized[0].people) == 48
    assert (bare.sized[0].people[0], bare.sized[0].people[-1]) == (0, 59)
    # 1x1 pixels are resized to more, and say the same of everybody.
    np.testing.assert_allclose(bare.sized[0].probs, bare.probs[bare.sized[0].people], atol=1e-6)


def test_the_background_is_filled_where_it_is_not_kept() -> None:
    cutout = Cutout(np.full((2, 2, 3), 200, np.uint8), np.array([[255, 0], [0, 255]], np.uint8))
    assert filled_cutout(cutout, PIXEL)[:, :, 0].tolist() == [[200, 124], [124, 200]]
    assert filled_cutout(cutout, replace(PIXEL, is_background_kept=True))[:, :, 0].tolist() == [[200, 200], [200, 200]]
    size = Preprocessing(2, 4)
    assert fitted(cutout.image_rgb, size)[:, :, 0].tolist() == [[124, 200, 200, 124]] * 2


class BySize(Table):
    """Answers probabilities, and others where the picture is not one pixel."""

    def __init__(self, probs: NDArray[np.float64], otherwise: NDArray[np.float64]) -> None:
        super().__init__(probs)
        self.otherwise = otherwise

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:  # type: ignore[override]
        people = images.reshape(len(images), -1)[:, 0].astype(int)
        table = self.probs if images.shape[1:3] == (1, 1) else self.otherwise
        return np.asarray(table[people], np.float32)


def test_what_resizing_changes() -> None:
    probs = np.array([[0.9, 0.2], [0.6, 0.7], [0.1, 0.8]])
    otherwise = probs.copy()
    otherwise[1] = [0.45, 0.9]
    bare = table_reference(probs)
    whole = replace(classifier(BySize(probs, otherwise)), is_end_to_end=True)
    larger, smaller = size_results(whole, bare)
    assert (larger.kind, smaller.kind, larger.samples) == (LARGER, SMALLER, 3)
    assert larger.max_probability_difference == pytest.approx(0.2, abs=1e-6)
    assert larger.label_flips == 1
    assert larger.farthest_flip == pytest.approx(0.1, abs=1e-6)
    logits = np.log(probs / (1 - probs))
    difference = np.log(otherwise / (1 - otherwise)) - logits
    expected = np.sqrt(np.square(difference).mean(axis=0)) / logits.std(axis=0)
    assert larger.resize_error == pytest.approx(expected.max(), abs=1e-5)
    # A wrong network that resizes rightly: only the answers differ from the trained network's.
    lower, _ = size_results(replace(classifier(BySize(otherwise, otherwise)), is_end_to_end=True), bare)
    assert (lower.resize_error, lower.label_flips) == (0, 1)
    same, _ = size_results(replace(classifier(BySize(probs, probs)), is_end_to_end=True), bare)
    assert (same.resize_error, same.label_flips, same.farthest_flip) == (0, 0, 0)
    report = compare_with(bare, whole, precision="int8")
    assert report.sizes == (larger, smaller)
    assert any(fault.startswith(f"on cut-outs {LARGER} resizing inside the model changes") for fault in report.faults)
    assert report.to_meta().sizes == {LARGER: round(larger.resize_error, 4), SMALLER: round(smaller.resize_error, 4)}
    assert compare_with(bare, classifier(Table(probs))).sizes == ()


def test_labels_in_another_order_are_matched_by_name() -> None:
    probs = np.array([[0.9, 0.2], [0.6, 0.7], [0.1, 0.8]])
    turned = classifier(BySize(probs[:, ::-1], probs[:, ::-1]), names=("cap", "hat"), thresholds=(0.5, 0.5))
    larger, _ = size_results(replace(turned, is_end_to_end=True), table_reference(probs))
    assert (larger.max_probability_difference, larger.label_flips) == (pytest.approx(0, abs=1e-6), 0)
    moved = replace(turned, thresholds=(0.75, 0.5), is_end_to_end=True)
    assert size_results(moved, table_reference(probs))[0].label_flips == 1


def test_a_model_that_does_not_take_other_sizes_is_refused() -> None:
    class Fixed(BySize):
        def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:  # type: ignore[override]
            if images.shape[1:3] != (1, 1):
                raise PredictionError("of one size only")
            return super().logits(images)

    probs = np.array([[0.9, 0.2], [0.6, 0.7]])
    with pytest.raises(ParityError, match="the conversion on cut-outs larger than the input: of one size only"):
        size_results(replace(classifier(Fixed(probs, probs)), is_end_to_end=True), table_reference(probs))


def test_cut_outs_of_one_size_go_together_a_few_at_a_time() -> None:
    class Asked(BySize):
        def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:  # type: ignore[override]
            self.asked.append([len(images), *images.shape[1:3]])
            return super().logits(images)

    probs = np.linspace(0.1, 0.9, 9)[:, None].repeat(2, axis=1)
    crops = tuple(np.full((1 if person % 3 else 2, 1, 3), person, np.uint8) for person in range(9))
    fits = np.stack([crop[:1] for crop in crops])
    table = Asked(probs, 1 - probs)
    sized = SizedCutouts("mixed", np.arange(9), crops, fits, np.float32(probs))
    found = answers_of_sized(replace(classifier(table), is_end_to_end=True), sized)
    assert table.asked == [[3, 2, 1], [4, 1, 1], [2, 1, 1]]
    expected = np.where((np.arange(9) % 3 == 0)[:, None], 1 - probs, probs)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def stage_graph(path: Path, offset: NDArray[np.float32], *, name: str = NORMALISED) -> None:
    """An end-to-end model of two pixels in a row that takes pictures of its own size alone."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
                helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
                helper.make_node("Add", ["planes", "offset"], [name]),
                helper.make_node("ReduceMean", [name, "axes"], ["probabilities"], keepdims=0),
            ],
            "stage",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, 2, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(offset, "offset"), numpy_helper.from_array(np.array([2, 3]), "axes")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, path)


def test_pixels_inside_the_model_are_those_of_training(tmp_path: Path) -> None:
    probs = np.array([[0.9, 0.2]] * 5)
    bare = table_reference(probs)
    trained = replace(bare.trained, preprocessing=replace(PIXEL, width_px=2, std_rgb=(1 / 255, 2 / 255, 1 / 255)))
    bare = replace(bare, trained=trained)
    crops = tuple(np.full((1, 2, 3), person, np.uint8) for person in range(5))
    fits = np.stack(crops)
    bare.__dict__["sized"] = [SizedCutouts("of one size", np.arange(5), crops, fits, np.float32(probs))]
    # The second channel's deviation is two levels: its values are halves.
    base = np.zeros((1, 3, 1, 2), np.float32)

    def faults(offset: NDArray[np.float32], people: slice = slice(None)) -> list[str]:
        stage_graph(tmp_path / "stage.onnx", offset)
        return level_faults(tmp_path / "stage.onnx", bare)

    # Levels of 0 to 4, halved: the second channel is off by up to 4 levels.
    (line,) = faults(base)
    assert line.startswith(
        "cut-outs of one size are resized otherwise inside the model: pixels differ by up to 4 levels"
    )
    bare.__dict__["sized"] = [SizedCutouts("x", np.arange(5), (crops[0],) * 5, fits[:1].repeat(5, axis=0), bare.probs)]
    assert faults(base) == []
    off = base.copy()
    off[0, 0, 0, 0] = 0.5
    assert faults(off) == []
    off[0, 0, 0, 0] = 1.02
    assert "differ by up to 1.02 levels of 255, 0.17 on average (limits 1 and 0.1)" in faults(off)[0]
    off[0, 0, 0, 0] = 0.62
    assert len(faults(off)) == 1  # 0.103 on average
    off[0, 0, 0, 0] = np.nan
    assert len(faults(off)) == 1
    stage_graph(tmp_path / "other.onnx", off, name="other")
    assert level_faults(tmp_path / "other.onnx", bare) == []


def whole(reference: Reference, stage: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Classifier:
    runtime = reference.trained.runtime
    assert isinstance(runtime, TorchRuntime)
    network = EndToEnd(runtime.network, reference.trained.preprocessing)
    if stage is not None:
        network.input_stage.forward = stage  # type: ignore[method-assign]
    return replace(reference.trained, runtime=TorchRuntime(network), is_end_to_end=True)


def resized_by(size: Preprocessing, how: int, *, is_stretched: bool = False) -> Callable[[torch.Tensor], torch.Tensor]:
    def stage(images: torch.Tensor) -> torch.Tensor:
        fits = []
        for image in images.numpy():
            height, width = (
                (size.height_px, size.width_px)
                if is_stretched
                else inner_size(*image.shape[:2], size.height_px, size.width_px)
            )
            inner = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
            fits.append(letterbox(inner, size.height_px, size.width_px, size.fill_rgb))
        return torch.from_numpy(size.normalise(np.stack(fits)))

    return stage


def off_centre(size: Preprocessing) -> Callable[[torch.Tensor], torch.Tensor]:
    def stage(images: torch.Tensor) -> torch.Tensor:
        fits = [letterbox(image, size.height_px, size.width_px, size.fill_rgb) for image in images.numpy()]
        for image, fit in zip(images.numpy(), fits, strict=True):
            height, width = inner_size(*image.shape[:2], size.height_px, size.width_px)
            for axis, border in ((0, size.height_px - height), (1, size.width_px - width)):
                if border % 2:
                    fit[:] = np.roll(fit, 1, axis=axis)
        return torch.from_numpy(size.normalise(np.stack(fits)))

    return stage


def test_an_end_to_end_model_as_it_is_passes(reference: Reference) -> None:
    report = compare_with(reference, whole(reference))
    assert report.faults == ()
    assert [one.kind for one in report.sizes] == [AS_CUT_OUT, LARGER, SMALLER]
    assert all(one.samples == 12 for one in report.sizes)


@pytest.mark.parametrize("mistake", ["nearest", "bilinear", "stretched", "off-centre", "rounded down"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_end_to_end_model_that_resizes_otherwise(
    reference: Reference, mistake: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = reference.trained.preprocessing
    stages = {
        "nearest": resized_by(size, cv2.INTER_NEAREST),
        "bilinear": resized_by(size, cv2.INTER_LINEAR),
        "stretched": resized_by(size, cv2.INTER_AREA, is_stretched=True),
        "off-centre": off_centre(size),
    }
    if mistake == "rounded down":
        monkeypatch.setattr(torch.Tensor, "round", torch.Tensor.floor)
    report = compare_with(reference, whole(reference, stages.get(mistake)), precision=precision)
    # At the network's own size nothing is seen of it.
    assert report.max_probability_difference < 1e-5
    limit = PARITY_LIMITS[precision].own_size
    assert limit is not None
    assert any("resizing inside the model changes logits by" in fault for fault in report.faults), [
        one.resize_error for one in report.sizes
    ]


def test_an_export_whose_letterbox_is_another_is_refused(
    copied: ExportedBottle, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = end_to_end._resampling

    def never_by_area(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
        *others, is_shrunk = given
        assert isinstance(is_shrunk, torch.Tensor)
        return right(*others, torch.zeros_like(is_shrunk))  # type: ignore[arg-type]

    monkeypatch.setattr(end_to_end, "_resampling", never_by_area)
    with pytest.raises(ParityError) as refused:
        export_run(copied.bottle, copied.run, ["onnx"], is_end_to_end=True)
    assert f"cut-outs {LARGER} are resized otherwise inside the model: pixels differ by up to" in refused.value.what
    assert f"on cut-outs {LARGER} resizing inside the model changes logits by" in refused.value.what
