"""Conversions damaged in ways that hardly change a decision, and end-to-end models that resize otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cls.errors import ParityError
from cls.exporting.formats import end_to_end
from cls.exporting.formats.end_to_end import EndToEnd
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.results import (
    AS_CUT_OUT,
    LARGER,
    SMALLER,
    odd_sizes,
)
from cls.exporting.parity.samples import ParitySample, Reference, reference_of
from cls.exporting.publish import ExportConfig, export_run
from cls.people.photos import read_photo
from cls.people.preprocess import Cutout, Preprocessing, cut_out, inner_size, on_flat_background
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import TorchRuntime
from cls.settings import PARITY_LIMITS
from tests.exporting.runs import ExportedBottle, trained_classifier


def letterbox(
    image_rgb: NDArray[np.uint8], height_px: int, width_px: int, fill_rgb: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """A whole picture as training puts it into the network's frame."""
    everything = np.full(image_rgb.shape[:2], 255, np.uint8)
    size = Preprocessing(height_px, width_px, fill_rgb=fill_rgb, is_background_kept=True)
    return size.fit(Cutout(image_rgb, everything))


@pytest.fixture(scope="module")
def reference(exported: ExportedBottle) -> Reference:
    people = exported.run.validation_samples()
    samples = [ParitySample(exported.bottle.picture(s.path), s.person, s.labels) for s in people]
    return reference_of(trained_classifier(exported.run), samples)


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
    assert any(fault.code == "parity.logits_shifted" and f"'{name}'" in fault for fault in report.faults)
    # The other labels are not blamed.
    assert not any(
        f"'{other}'" in fault for other in reference.trained.labels if other != name for fault in report.faults
    )
    assert [cause.code for cause in report.causes] == ["parity.bias_differs"]
    assert report.causes[0].endswith(f": {bias:+.2f} for '{name}'")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("factor", [0.6, 0.75, 1.3])
def test_a_factor_of_all_logits(reference: Reference, precision: str, factor: float) -> None:
    report = compare_with(reference, with_logits(reference, lambda logits: logits * factor), precision=precision)
    assert "parity.logits_differ" in [fault.code for fault in report.faults]
    assert [cause.code for cause in report.causes] == ["parity.logits_scaled"]
    assert report.causes[0].endswith(f" {factor:.2f}")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounding_alone_passes(reference: Reference, precision: str) -> None:
    steps = {"fp16": 200.0, "int8": 8.0}[precision]
    report = compare_with(
        reference, with_logits(reference, lambda logits: np.round(logits * steps) / steps), precision=precision
    )
    assert report.faults == report.causes == ()


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


def inner_size_rounded_down(
    stage: end_to_end.InputStage, height: torch.Tensor, width: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    scale = torch.minimum(stage._height_px / height, stage._width_px / width)
    inner_height = (height * scale + 1e-9).floor().clamp(1, stage._height_px)
    return inner_height, (width * scale + 1e-9).floor().clamp(1, stage._width_px)


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
        monkeypatch.setattr(end_to_end.InputStage, "_inner_size", inner_size_rounded_down)
    report = compare_with(reference, whole(reference, stages.get(mistake)), precision=precision)
    # At the network's own size nothing is seen of it.
    assert report.max_probability_difference < 1e-5
    limit = PARITY_LIMITS[precision].own_size
    assert limit is not None
    assert "parity.resizing_changes_logits" in [fault.code for fault in report.faults], [
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
        export_run(copied.bottle, copied.run, ExportConfig(("onnx",), is_end_to_end=True))
    assert refused.value.code == "parity.out_of_tolerance"
    of_larger = [fault.code for fault in refused.value.faults if f"cut-outs {LARGER} " in fault]
    assert of_larger == ["parity.resizing_changes_logits", "parity.resizing_differs"]
