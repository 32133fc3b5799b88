"""The calibration error in a format's meta.json is that of its own answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cls.exporting.package_writer import with_calibration_of
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.report import ParityReport
from cls.exporting.parity.results import calibration_error
from cls.exporting.parity.samples import ParitySample, reference_of
from cls.package.archive import open_package
from cls.package.meta import parse_meta, read_meta
from cls.runtimes.open import classifier_of_run
from cls.settings import ParityLimits
from tests.exporting.runs import ExportedBottle
from tests.exporting.tables import Table, classifier, reference
from tests.package.metas import make_meta

PROBS = np.array([[0.9, 0.2], [0.6, 0.52], [0.1, 0.8]])
TRUTH = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
OWN = np.array([[0.8, 0.2], [0.6, 0.52], [0.1, 0.8]])


@pytest.fixture
def report() -> ParityReport:
    people = replace(reference(PROBS, TRUTH), part="validation")
    return compare_with(people, classifier(Table(OWN)), limits=ParityLimits())


def metrics(samples: int = 3) -> dict[str, Any]:
    values = {"f1": 0.9, "ece": 0.5, "ece_adaptive": 0.5, "brier": 0.5}
    parts = {"labels": {"hat": dict(values), "cap": dict(values)}, "macro": dict(values), "micro": dict(values)}
    return {"validation": {**parts, "samples": samples}, "epoch": 3}


def calibrated(report: ParityReport, metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a meta.json with the calibration errors of a format."""
    return with_calibration_of(report, make_meta(metrics=metrics)).metrics


def test_the_run_s_calibration_gives_way_to_the_format_s(report: ParityReport) -> None:
    found = calibrated(report, metrics())
    hat, cap = found["validation"]["labels"]["hat"], found["validation"]["labels"]["cap"]
    assert hat["ece"] == pytest.approx((0.2 + 0.4 + 0.1) / 3, abs=1e-5)
    assert hat["brier"] == pytest.approx((0.04 + 0.16 + 0.01) / 3, abs=1e-5)
    assert cap["ece"] == pytest.approx((0.2 + 0.52 + 0.2) / 3, abs=1e-5)
    assert found["validation"]["macro"]["ece"] == pytest.approx((hat["ece"] + cap["ece"]) / 2, abs=2e-6)
    assert found["validation"]["micro"]["ece"] == report.to_meta().ece
    assert (hat["f1"], found["epoch"], found["validation"]["samples"]) == (0.9, 3, 3)
    # What a run of an older version did not measure is not added.
    older = metrics()
    del older["validation"]["micro"]["brier"]
    assert "brier" not in calibrated(report, older)["validation"]["micro"]


def test_other_people_say_nothing_of_the_validation_s_calibration(report: ParityReport) -> None:
    for other in (calibrated(report, metrics(4)), calibrated(replace(report, part=None), metrics())):
        assert other["validation"]["micro"] == other["validation"]["labels"]["hat"] == {"f1": 0.9}
    assert calibrated(report, {"valid": {"f1": 0.5}}) == {"valid": {"f1": 0.5}}
    assert calibrated(report, {"validation": {"f1": 1}})["validation"]["f1"] == 1


def test_a_package_says_its_own_calibration_error(exported: ExportedBottle) -> None:
    people = exported.run.validation_samples()
    samples = [ParitySample(exported.bottle.picture(s.path), s.person, s.labels) for s in people]
    trained = reference_of(classifier_of_run(exported.run), samples)
    expected = calibration_error(trained.probs, trained.truth)
    with open_package(exported.package / "model_onnx.zip") as package:
        meta = package.meta()
    parity = meta.parity["onnx"]
    assert parity.ece == pytest.approx(expected, abs=1e-5)
    assert list(parity.labels) == list(meta.labels)
    for index, label in enumerate(meta.labels):
        own = calibration_error(trained.probs[:, index], trained.truth[:, index])
        assert parity.labels[label].ece == pytest.approx(own, abs=1e-5)
    assert read_meta(exported.package / "meta.json").parity["onnx"] == parity
    # Packages of before do not say it.
    content = meta.model_dump(mode="json")
    for key in ("ece", "labels", "sizes"):
        del content["parity"]["onnx"][key]
    older = parse_meta(content).parity["onnx"]
    assert (older.ece, older.labels, older.sizes) == (None, {}, {})
