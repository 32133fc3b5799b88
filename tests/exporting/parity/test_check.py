"""The parity check on networks too small to wait for, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cls.bottle.layout import Bottle
from cls.errors import FileError, ParityError
from cls.exporting.convert import write_openvino
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.end_to_end import NETWORK_PREFIX, NORMALISED
from cls.exporting.formats.onnx_fp16 import write_onnx_fp16
from cls.exporting.parity import check as parity_gate
from cls.exporting.parity.check import REPORT_NAME, CandidateConversion, ParityCheck
from cls.exporting.parity.report import RefusedTry
from cls.exporting.parity.results import LARGER, SMALLER
from cls.exporting.parity.samples import Reference
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import OnnxRuntime
from cls.settings import ParityLimits
from tests.exporting.networks import small_network

SIZE = Preprocessing(32, 24)
NONE = ParityLimits()


class Gate:
    """Sends ONNX files through the parity check; opened as they are, without a zip."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, gain: float = 1.0) -> None:
        self.folder, self.source, self.file = folder, folder / "source.onnx", folder / "model.onnx"
        small_network(self.source, gain=gain)
        crops = np.random.default_rng(3).integers(0, 256, (9, 32, 24, 3), dtype=np.uint8)
        trained = self.opened(self.source)
        probs = trained.probabilities(crops)
        truth = np.full(probs.shape, np.nan)
        self.reference = Reference(trained, tuple(f"{n}.jpeg" for n in range(9)), crops, probs, truth)
        monkeypatch.setattr(parity_gate, "open_verified_zip", self.open)

    @staticmethod
    def opened(file: Path) -> Classifier:
        runtime = OnnxRuntime(file.read_bytes(), str(file))
        return Classifier("headwear", "v__0", ("hat", "cap"), (0.5, 0.5), SIZE, runtime, str(file))

    def open(self, archive: Path) -> Classifier:
        assert archive == self.folder / "model_onnx.zip"
        return self.opened(self.file)

    def candidate(self, precision: str = "fp32", source: Path | None = None) -> CandidateConversion:
        return CandidateConversion("onnx", precision, self.folder / "model_onnx.zip", (self.file,), source)

    def change(self, name: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        model = onnx.load(self.source)
        (tensor,) = [one for one in model.graph.initializer if one.name == name]
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)).astype(np.float32), name))
        onnx.save(model, self.file)

    def judge(self, precision: str = "fp32", source: Path | None = None) -> parity_gate.ParityVerdict:
        bottle: Bottle = None  # type: ignore[assignment]
        check = ParityCheck(self.reference, bottle, Path("report.json"), {precision: NONE})
        return check.judge(self.candidate(precision, source))


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(tmp_path, monkeypatch)


def test_the_network_itself_passes(gate: Gate) -> None:
    gate.file.write_bytes(gate.source.read_bytes())
    for source in (None, gate.source, Path("network.pt")):
        verdict = gate.judge(source=source)
        assert verdict.error is None
        assert verdict.report is not None
        assert (verdict.report.faults, verdict.report.causes, verdict.report.divergence) == ((), (), None)
        assert verdict.report.max_probability_difference < 1e-6


def test_half_precision_passes_and_says_how_it_was_made(gate: Gate) -> None:
    write_onnx_fp16(gate.source, CalibrationImages(SIZE.normalise(gate.reference.crops_rgb)), gate.file)
    made = replace(gate.candidate("fp16", gate.source), kept_in_float=("x",), tries=(RefusedTry(0, ("y",)),))
    report = ParityCheck(gate.reference, None, Path("report.json"), {made.precision: NONE}).judge(made).report  # type: ignore[arg-type]
    assert report is not None
    assert (report.faults, report.divergence) == ((), None)
    assert (report.kept_in_float, report.tries) == (("x",), (RefusedTry(0, ("y",)),))


def test_a_weight_is_refused_where_no_answer_is(gate: Gate) -> None:
    def dead(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values * (np.arange(len(values)) != 2)[:, None, None, None]

    gate.change("second", dead)
    verdict = gate.judge(source=gate.source)
    assert verdict.report is not None
    (weights,) = [fault for fault in verdict.report.faults if fault.code == "parity.weights_differ"]
    assert weights.endswith(": second (channel 2)")
    assert verdict.report.divergence is not None
    assert verdict.report.divergence.node == "conv_second"
    assert isinstance(verdict.error, ParityError)
    assert verdict.error.where == "v__0, model.onnx"
    assert verdict.error.hint is not None
    assert verdict.error.hint.endswith(" report_refused.html")
    # Without an ONNX it was made from there is nothing to compare weights with.
    for source in (None, Path("network.pt")):
        other = gate.judge(source=source).report
        assert other is not None
        assert "parity.weights_differ" not in [fault.code for fault in other.faults]


def test_what_cannot_be_opened_is_refused(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.file.write_bytes(gate.source.read_bytes())
    failure = FileError("no such thing", code="not_found", where="/somewhere/thing.json")

    def broken(*_: object, **__: object) -> Classifier:
        raise failure

    monkeypatch.setattr(parity_gate, "open_verified_zip", broken)
    verdict = gate.judge()
    assert verdict.report is None
    assert verdict.error is not None
    assert verdict.error.code == "parity.not_found"
    assert verdict.error.what.endswith(f": {failure.what}")
    assert verdict.error.where == "v__0, model.onnx, thing.json"
    assert verdict.error.hint is not None
    assert verdict.error.hint.endswith(" report_refused.html")
    assert verdict.error.__cause__ is failure
    failure.where = ""
    error = gate.judge().error
    assert error is not None
    assert error.where == "v__0, model.onnx"


def halved(file: Path, target: Path) -> None:
    """Every convolution's output goes through half precision."""
    model = onnx.load(file)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        name = node.output[0]
        if node.op_type != "Conv":
            model.graph.node.append(node)
            continue
        node.output[0] = f"{name}_full"
        half = helper.make_node("Cast", [f"{name}_full"], [f"{name}_half"], to=TensorProto.FLOAT16)
        full = helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)
        model.graph.node.extend([node, half, full])
    onnx.save(model, target)


def test_overflow_of_half_precision_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(tmp_path, monkeypatch, gain=1e6)
    halved(gate.source, gate.file)
    report = gate.judge("fp16", gate.source).report
    assert report is not None
    assert report.divergence is not None
    assert report.divergence.difference is None
    largest = report.divergence.largest_value
    assert largest > 65504
    assert report.causes[0].code == "parity.fp16_overflow"
    assert f" {largest:.6g} is beyond 65504" in report.causes[0]
    again = gate.judge("fp32", gate.source).report
    assert again is not None
    assert "parity.fp16_overflow" not in [cause.code for cause in again.causes]


def test_no_overflow_is_named_where_the_right_values_are_small(gate: Gate) -> None:
    gate.change("second", lambda values: values * np.float32("inf"))
    report = gate.judge("fp16", gate.source).report
    assert report is not None
    assert report.divergence is not None
    assert report.divergence.difference is None
    assert "parity.fp16_overflow" not in [cause.code for cause in report.causes]


def test_no_overflow_is_named_where_the_value_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(tmp_path, monkeypatch, gain=1e6)
    gate.change("first", lambda values: values * np.float32(1.5))
    report = gate.judge("fp16", gate.source).report
    assert report is not None
    assert report.divergence is not None
    assert report.divergence.difference == pytest.approx(0.5, abs=1e-5)
    assert report.divergence.largest_value > 65504
    assert "parity.fp16_overflow" not in [cause.code for cause in report.causes]


def stretching(file: Path, target: Path) -> None:
    """An end-to-end model that stretches pictures of any size to the network's."""
    network = onnx.compose.add_prefix(onnx.load(file), NETWORK_PREFIX)
    inside, logits = network.graph.input[0].name, network.graph.output[0].name
    mean, deviation = (np.array(v, np.float32)[:, None, None] * 255 for v in (SIZE.mean_rgb, SIZE.std_rgb))
    constants = {"mean": mean, "deviation": deviation, "sizes": np.array([32, 24])}
    stage = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["planes", "", "", "sizes"], ["fitted"], mode="linear", axes=[2, 3]),
        helper.make_node("Sub", ["fitted", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], [NORMALISED]),
        helper.make_node("Identity", [NORMALISED], [inside]),
    ]
    graph = helper.make_graph(
        [*stage, *network.graph.node, helper.make_node("Sigmoid", [logits], ["probabilities"])],
        "whole",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [*network.graph.initializer, *(numpy_helper.from_array(value, name) for name, value in constants.items())],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), target)


def test_pixels_inside_an_end_to_end_model_are_looked_at(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    stretching(gate.source, gate.file)
    runtime = OnnxRuntime(gate.file.read_bytes(), "whole", output_name="probabilities")
    whole = replace(gate.reference.trained, runtime=runtime, is_end_to_end=True)
    monkeypatch.setattr(parity_gate, "open_verified_zip", lambda *_, **__: whole)
    verdict = gate.judge(source=gate.source)
    report = verdict.report
    assert report is not None, verdict.error
    assert report.max_probability_difference < 1e-5
    assert [fault.code for fault in report.faults] == ["parity.resizing_differs"] * 2
    assert all(f" {kind} " in fault for fault, kind in zip(report.faults, (LARGER, SMALLER), strict=True))


def test_pixels_inside_another_format_are_not_looked_at(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    stretching(gate.source, gate.file)
    runtime = OnnxRuntime(gate.file.read_bytes(), "whole", output_name="probabilities")
    whole = replace(gate.reference.trained, runtime=runtime, is_end_to_end=True)
    monkeypatch.setattr(parity_gate, "open_verified_zip", lambda *_, **__: whole)
    graph = gate.folder / "model.xml"
    write_openvino(gate.file, graph)
    candidate = replace(gate.candidate(source=gate.source), files=(graph, graph.with_suffix(".bin")))
    bottle: Bottle = None  # type: ignore[assignment]
    verdict = ParityCheck(gate.reference, bottle, Path("report.json"), {"fp32": NONE}).judge(candidate)
    assert verdict.error is None
    assert verdict.report is not None
    assert verdict.report.faults == ()


def test_the_report_has_a_name() -> None:
    assert REPORT_NAME == "parity_report.json"


def test_all_are_judged_before_one_is_refused(gate: Gate) -> None:
    gate.file.write_bytes(gate.source.read_bytes())
    report_file = gate.folder / "parity_report.json"
    bottle: Bottle = None  # type: ignore[assignment]
    limits = {"fp32": NONE, "int8": NONE}
    check = ParityCheck(gate.reference, bottle, report_file, limits)
    assert check.require(gate.candidate()) is check.passed["onnx"]
    assert report_file.exists()
    gate.change("head", lambda values: values * np.float32(1.5))
    check.judge(replace(gate.candidate("int8"), name="onnx_int8"))
    with pytest.raises(ParityError) as refused:
        check.require(gate.candidate(source=gate.source))
    assert not check.passed
    assert list(check.refused) == ["onnx", "onnx_int8"]
    assert refused.value.code == "parity.out_of_tolerance"
    assert "parity.weights_differ" in refused.value.codes
    assert refused.value.hint is not None
    assert refused.value.hint.endswith("parity_report_refused.html")
    assert (gate.folder / "parity_report_refused.html").exists()
