"""8 bits with more and more left in float32: real networks in which one channel's bias is far beyond all others.

Nothing listens to that channel, so in float32 it changes no answer; in 8 bits its range leaves no levels to the other
channels of the same tensor.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cls.cli.command import execute
from cls.cli.export import COMMAND
from cls.cli.package import SHOW
from cls.exporting.parity.samples import ParitySample, reference_of
from cls.package.archive import open_package
from cls.runtimes.open import classifier_of_run
from cls.training.runs.run import FinishedRun, open_run
from tests.bottles import GROUP, make_tiny_bottle
from tests.exporting.runs import fabricate_run

pytestmark = pytest.mark.usefixtures("shared_conversions")

# A normalisation whose first channel gets the outlier, and the convolution that would listen to it.
ONE = (("layer1.0.bn1", "layer1.0.conv2"),)
MANY = (
    *ONE,
    ("conv1.1", "conv1.3"),
    ("conv1.4", "conv1.6"),
    ("layer2.0.bn1", "layer2.0.conv2"),
    ("layer3.0.bn1", "layer3.0.conv2"),
    ("layer3.0.bn2", "layer3.0.conv3"),
    ("layer4.0.bn1", "layer4.0.conv2"),
)
OUTLIER = 1e5


def run_with_outliers(folder: Path, places: tuple[tuple[str, str], ...]) -> FinishedRun:
    bottle = make_tiny_bottle(folder / "made")
    run = fabricate_run(bottle)
    saved = torch.load(run.checkpoint, weights_only=True)
    for norm, conv in places:
        saved["state_dict"][f"network.{norm}.bias"][0] = OUTLIER
        saved["state_dict"][f"network.{conv}.weight"][:, 0] = 0
    torch.save(saved, run.checkpoint)
    decide_in_the_widest_gap(open_run(bottle, run.folder))
    return open_run(bottle, run.folder)


def decide_in_the_widest_gap(run: FinishedRun) -> None:
    """Thresholds that tell people apart, and far from everybody: rounding alone changes no decision."""
    samples = [ParitySample(run.bottle.picture(s.path), s.person, s.labels) for s in run.validation_samples()]
    probs = np.sort(reference_of(classifier_of_run(run), samples).probs, axis=0)[3:-3]
    at = np.argmax(np.diff(probs, axis=0), axis=0)
    metrics = json.loads((run.folder / "metrics.json").read_text())
    for column, (label, row) in enumerate(zip(run.labels, at.tolist(), strict=True)):
        metrics["thresholds"][label] = float(probs[row : row + 2, column].mean())
    (run.folder / "metrics.json").write_text(json.dumps(metrics))


def test_the_layers_that_lose_most_stay_in_float(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_with_outliers(tmp_path, ONE)
    bottle = run.bottle
    command = ["--group", GROUP, "--formats", "onnx_int8", "--cfg", str(bottle.settings.file)]
    assert execute(COMMAND, command) == 0
    said = capsys.readouterr()
    assert "model_int8.onnx with 0 layers in float32: " in said.err
    assert "another try" in said.err
    assert "kept in float32: 2 layers (node_" in said.out
    folder = bottle.inference_model(GROUP)
    with open_package(folder / "model_onnx_int8.zip") as package:
        parity = package.meta().parity["onnx_int8"]
    assert len(parity.kept_in_float) == 2
    report = json.loads((folder.parent / "parity_report.json").read_text())["formats"]["onnx_int8"]
    assert tuple(report["kept_in_float"]) == parity.kept_in_float
    (refused,) = report["tries"]
    assert refused["layers_in_float"] == 0
    assert any(" F1 " in f" {fault} " for fault in refused["faults"])
    page = (folder.parent / "parity_report.html").read_text()
    assert f"2 layers: {', '.join(parity.kept_in_float)}" in page
    assert "refused with 0 layers in float32" in page
    assert execute(SHOW, [str(folder / "model_onnx_int8.zip")]) == 0
    assert f"kept in float32: {', '.join(parity.kept_in_float)}" in capsys.readouterr().out


def test_what_half_of_the_layers_do_not_mend_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_with_outliers(tmp_path, MANY)
    command = ["--group", GROUP, "--formats", "onnx,onnx_int8", "--cfg", str(run.bottle.settings.file)]
    assert execute(COMMAND, command) == 1
    *notes, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert "model_int8.onnx" in line
    assert " 8 layers " in line
    assert " 0, 2, 4 " in line
    assert sum("another try" in note for note in notes) == 3
    folder = run.bottle.inference_model(GROUP)
    assert {path.name for path in folder.iterdir()} == {"meta.json", "model.onnx", "model_onnx.zip"}
    report = json.loads((folder.parent / "parity_report_refused.json").read_text())["formats"]["onnx_int8"]
    assert [step["layers_in_float"] for step in report["tries"]] == [0, 2, 4]
    assert len(report["kept_in_float"]) == 8
    assert report["faults"]
