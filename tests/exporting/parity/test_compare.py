"""The parity check against planted faults: each is a mistake that conversions really make."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from cls.errors import ExportError, ParityError
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.report import ParityFile, ParityReport
from cls.exporting.parity.samples import MAX_SAMPLES, ParitySample, choose_samples, reference_of
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import OnnxRuntime
from cls.runtimes.open import classifier_of_run, open_classifier
from tests.exporting.runs import ExportedBottle, trained_classifier


@pytest.fixture(scope="module")
def samples(exported: ExportedBottle) -> list[ParitySample]:
    people = exported.run.validation_samples()
    return [ParitySample(exported.bottle.picture(s.path), s.person, s.labels) for s in people]


@pytest.fixture(scope="module")
def trained(exported: ExportedBottle) -> Classifier:
    return trained_classifier(exported.run)


@pytest.fixture
def converted(exported: ExportedBottle) -> Classifier:
    return open_classifier(str(exported.package / "model_onnx.zip"), exported.bottle)


def compare(trained: Classifier, converted: Classifier, samples: list[ParitySample]) -> ParityReport:
    return compare_with(reference_of(trained, samples), converted)


def with_head(classifier: Classifier, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Classifier:
    """The same with another last layer's weights."""
    model = onnx.load(classifier.source.replace("model_onnx.zip", "model.onnx"))
    heads = [tensor for tensor in model.graph.initializer if list(tensor.dims)[:1] == [3] and len(tensor.dims) == 2]
    assert heads
    for tensor in heads:
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))
    return replace(classifier, runtime=OnnxRuntime(model.SerializeToString(), "planted"))


def test_a_good_conversion_agrees(trained: Classifier, converted: Classifier, samples: list[ParitySample]) -> None:
    report = compare(trained, converted, samples)
    assert report.faults == ()
    assert report.label_flips_beyond_limit == 0
    assert report.max_probability_difference < 1e-5
    assert (report.samples, report.batch_sizes) == (12, (1, 7, 64))


def test_labels_in_another_order_agree_when_names_go_along(
    trained: Classifier, converted: Classifier, samples: list[ParitySample]
) -> None:
    class Turned:
        description = "turned"

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return converted.runtime.logits(images)[:, ::-1]

    turned = replace(converted, runtime=Turned(), labels=converted.labels[::-1], thresholds=converted.thresholds[::-1])
    assert compare(trained, turned, samples).faults == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights[[1, 0, 2]],
        lambda weights: weights + np.eye(*weights.shape, dtype=np.float32) * 5,
        lambda weights: np.zeros_like(weights),
    ],
    ids=["two labels swapped", "a weight corrupted", "constant"],
)
def test_wrong_weights(
    trained: Classifier,
    converted: Classifier,
    samples: list[ParitySample],
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> None:
    report = compare(trained, with_head(converted, change), samples)
    with pytest.raises(ParityError) as caught:
        report.raise_if_refused("run", converted.source)
    assert caught.value.code == "parity.out_of_tolerance"
    assert "parity.probabilities_differ" in caught.value.codes
    assert caught.value.what.endswith(report.worst.text())
    assert report.worst.label in trained.labels


def test_a_decision_counts_once_however_many_batch_sizes_it_differs_at(
    trained: Classifier, converted: Classifier, samples: list[ParitySample]
) -> None:
    swapped = compare(trained, with_head(converted, lambda weights: weights[[1, 0, 2]]), samples)
    most = max(result.label_flips for result in swapped.by_batch)
    assert swapped.decisions == 12 * 3
    assert most <= swapped.label_flips <= sum(result.label_flips for result in swapped.by_batch)
    # At every batch size the same ones here: the mistake does not depend on the batch.
    assert swapped.label_flips == most > 0
    (differ,) = [fault for fault in swapped.faults if fault.code == "parity.decisions_differ"]
    assert differ.startswith(f"{most} of 36 ")
    assert " 0.001 " in differ
    assert f"{most} of 36 decisions differ" in swapped.in_words()


def test_a_constant_answer_is_named(trained: Classifier, converted: Classifier, samples: list[ParitySample]) -> None:
    report = compare(trained, with_head(converted, np.zeros_like), samples)
    (constant,) = [fault for fault in report.faults if fault.code == "parity.constant_output"]
    assert "red top" in constant


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number(trained: Classifier, converted: Classifier, samples: list[ParitySample], value: float) -> None:
    report = compare(trained, with_head(converted, lambda weights: np.full_like(weights, value)), samples)
    (infinite,) = [fault for fault in report.faults if fault.code == "parity.output_not_finite"]
    assert "12 of 12" in infinite
    assert report.worst.found is None
    json.dumps(ParityFile(run="v__0", formats={"onnx": report}).to_json_values(), allow_nan=False)


@pytest.mark.parametrize(
    "change",
    [
        {"mean_rgb": (0.0, 0.0, 0.0), "std_rgb": (1.0, 1.0, 1.0)},
        {"mean_rgb": (0.406, 0.456, 0.485)},
        {"is_background_kept": True},
        {"margin_rel": 0.3},
    ],
    ids=["no normalisation", "channels of mean swapped", "background kept", "another margin"],
)
def test_another_preprocessing(
    trained: Classifier, converted: Classifier, samples: list[ParitySample], change: dict[str, object]
) -> None:
    wrong = replace(converted, preprocessing=replace(converted.preprocessing, **change))
    assert compare(trained, wrong, samples).faults


def test_bgr_for_rgb(trained: Classifier, converted: Classifier, samples: list[ParitySample]) -> None:
    class Swapped:
        description = "BGR"

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return converted.runtime.logits(np.ascontiguousarray(images[:, ::-1]))

    assert compare(trained, replace(converted, runtime=Swapped()), samples).faults


def test_neighbours_in_the_batch_that_matter(
    trained: Classifier, converted: Classifier, samples: list[ParitySample]
) -> None:
    class BatchNormInTraining:
        description = "batch-dependent"

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            logits = converted.runtime.logits(images)
            return logits if len(images) == 1 else logits - logits.mean(axis=0)

    report = compare(trained, replace(converted, runtime=BatchNormInTraining()), samples)
    assert report.faults
    assert report.worst.batch in (7, 64)


def test_thresholds_of_another_run(trained: Classifier, converted: Classifier, samples: list[ParitySample]) -> None:
    report = compare(trained, replace(converted, thresholds=(0.41, 0.5, 0.6)), samples)
    assert report.faults[0].code == "parity.threshold_mismatch"
    assert report.faults[0].endswith(": red top 0.41 instead of 0.4")


def test_labels_of_another_model(trained: Classifier, converted: Classifier, samples: list[ParitySample]) -> None:
    with pytest.raises(ParityError) as caught:
        compare(trained, replace(converted, labels=("hat", "cap", "none")), samples)
    assert caught.value.code == "parity.label_mismatch"
    assert "hat, cap, none" in caught.value.what


def test_damaged_photos_are_left_out(copied: ExportedBottle, samples: list[ParitySample]) -> None:
    files = [copied.bottle.picture(sample.file.name) for sample in samples]
    own = [ParitySample(file, sample.person) for file, sample in zip(files, samples, strict=True)]
    trained = classifier_of_run(copied.run)
    files[0].write_bytes(b"no")
    assert compare(trained, trained, own).samples == 11
    for file in files:
        file.write_bytes(b"no")
    with pytest.raises(ExportError) as caught:
        compare(trained, trained, own)
    assert caught.value.code == "export.unreadable_photos"
    assert "12 photos" in caught.value.what


def test_many_samples_are_a_seeded_choice(samples: list[ParitySample]) -> None:
    many = samples * 100
    chosen = choose_samples(many)
    assert len(chosen) == MAX_SAMPLES
    assert chosen == choose_samples(many)
    assert choose_samples(samples) == samples
