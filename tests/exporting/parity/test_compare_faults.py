"""Every fault planted here is a mistake that conversions really make; the parity check must refuse and name it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cls.errors import ParityError, ParityFault
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.onnx_fp16 import write_onnx_fp16
from cls.exporting.parity.check import CandidateConversion, ParityCheck, ParityVerdict
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.report import ParityReport
from cls.exporting.parity.samples import ParitySample, Reference, reference_of
from cls.package.meta import ModelMeta, read_meta
from cls.package.packing import PackedModel, write_package
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import TorchRuntime
from cls.runtimes.open import open_classifier
from cls.settings import PARITY_LIMITS, ParityLimits
from tests.exporting.runs import ExportedBottle, trained_classifier

Plant = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def reference(exported: ExportedBottle) -> Reference:
    people = exported.run.validation_samples()
    samples = [ParitySample(exported.bottle.picture(s.path), s.person, s.labels) for s in people]
    return reference_of(trained_classifier(exported.run), samples)


@pytest.fixture
def gate(exported: ExportedBottle, reference: Reference, tmp_path: Path) -> Gate:
    return Gate(exported, reference, tmp_path)


class Gate:
    """Sends a package with a fault in it through the parity check."""

    def __init__(self, exported: ExportedBottle, reference: Reference, folder: Path) -> None:
        self.exported, self.reference, self.folder = exported, reference, folder
        self.model = onnx.load(exported.package / "model.onnx")
        self.meta = read_meta(exported.package / "meta.json")
        self.report_file = folder / "parity_report.json"
        self.refused_file = folder / "parity_report_refused.json"

    def refusal(
        self,
        plant: Plant | None = None,
        meta: ModelMeta | None = None,
        *,
        precision: str = "fp32",
        source: Path | None = None,
    ) -> ParityVerdict:
        """What the check says of the exported model with a fault planted, or of its package with another meta.json."""
        if plant is not None:
            plant(self.model)
        file = self.folder / "model.onnx"
        file.write_bytes(self.model.SerializeToString())
        check = self.check()
        with pytest.raises(ParityError) as refused:
            check.require(self.candidate(file, meta, precision=precision, source=source))
        verdict = check.verdicts["onnx"]
        assert verdict.error is refused.value
        assert "\n" not in refused.value.line()
        assert str(self.refused_file.with_suffix(".html")) in (refused.value.hint or "")
        assert not self.report_file.exists()
        written = json.loads(self.refused_file.read_text())["formats"]["onnx"]
        assert written["faults"]
        if verdict.report is not None:
            assert refused.value.code == "parity.out_of_tolerance"
            assert refused.value.faults == (*verdict.report.faults, *verdict.report.causes)
            assert all(sentence in refused.value.what for sentence in refused.value.faults)
            assert (written["faults"], written["causes"]) == ([*verdict.report.faults], [*verdict.report.causes])
        page = self.refused_file.with_suffix(".html").read_text()
        assert ">refused</b>" in page
        assert "http" not in page  # it needs nothing from elsewhere
        return verdict

    def departure(self, plant: Plant | None = None, meta: ModelMeta | None = None, **how: object) -> ParityReport:
        """Likewise, the report of a conversion that can be run."""
        report = self.refusal(plant, meta, **how).report  # type: ignore[arg-type]
        assert report is not None
        return report

    def prove(self, file: Path, *, precision: str = "fp32", source: Path | None = None) -> None:
        self.check().require(self.candidate(file, precision=precision, source=source))

    def check(self) -> ParityCheck:
        return ParityCheck(self.reference, self.exported.bottle, self.report_file, PARITY_LIMITS)

    def candidate(
        self, file: Path, meta: ModelMeta | None = None, *, precision: str, source: Path | None
    ) -> CandidateConversion:
        archive = self.folder / "model_onnx.zip"
        write_package(archive, meta or self.meta, PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": file}))
        return CandidateConversion("onnx", precision, archive, (file,), source)


def codes(faults: Sequence[ParityFault]) -> list[str]:
    return [fault.code for fault in faults]


def before_the_network(*nodes: onnx.NodeProto, **constants: NDArray[np.generic]) -> Plant:
    """Puts nodes between the input `images` and the network; the last one's output is `seen`."""

    def plant(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["seen" if name == "images" else name for name in node.input]
        kept = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *kept])
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())

    return plant


def channels(*order: int) -> Plant:
    node = helper.make_node("Gather", ["images", "order"], ["seen"], axis=1)
    return before_the_network(node, order=np.array(order, np.int64))


def normalised_back() -> list[onnx.NodeProto]:
    """images -> levels of 0 to 1."""
    return [
        helper.make_node("Mul", ["images", "std_rgb"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean_rgb"], ["levels"]),
    ]


def statistics(preprocessing: Preprocessing) -> dict[str, NDArray[np.float32]]:
    return {
        "mean_rgb": np.array(preprocessing.mean_rgb, np.float32).reshape(1, 3, 1, 1),
        "std_rgb": np.array(preprocessing.std_rgb, np.float32).reshape(1, 3, 1, 1),
    }


def node_of(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def test_the_model_as_it_is_passes(gate: Gate, exported: ExportedBottle) -> None:
    gate.prove(exported.package / "model.onnx")
    report = json.loads(gate.report_file.read_text())["formats"]["onnx"]
    assert report["faults"] == report["causes"] == []
    assert report["f1_change"] == report["ma_change"] == 0
    assert report["truth"] == "labels"
    page = gate.report_file.with_suffix(".html").read_text()
    assert ">agrees</b>" in page
    assert "data:image" not in page


def test_swapped_channels(gate: Gate) -> None:
    report = gate.departure(channels(0, 2, 1))
    assert codes(report.causes) == ["parity.swapped_channels_normalised"]
    assert "RBG" in report.causes[0]
    assert report.divergence is not None
    assert (report.divergence.node, report.divergence.operator) == ("seen", "Gather")
    assert report.divergence.text() in report.sentence()


def test_bgr_for_rgb(gate: Gate) -> None:
    """Pixels in OpenCV's order, then normalised as if they were RGB."""
    size = gate.meta.preprocessing_object()
    nodes = normalised_back()
    nodes.append(helper.make_node("Gather", ["levels", "order"], ["turned"], axis=1))
    nodes.append(helper.make_node("Sub", ["turned", "mean_rgb"], ["centred"]))
    nodes.append(helper.make_node("Div", ["centred", "std_rgb"], ["seen"]))
    report = gate.departure(before_the_network(*nodes, order=np.array([2, 1, 0]), **statistics(size)))
    assert codes(report.causes) == ["parity.swapped_channels"]
    assert "BGR" in report.causes[0]


def test_missing_normalisation(gate: Gate) -> None:
    size = gate.meta.preprocessing_object()
    nodes = normalised_back()
    nodes[-1].output[0] = "seen"
    report = gate.departure(before_the_network(*nodes, **statistics(size)))
    assert codes(report.causes) == ["parity.unnormalised_0_to_1"]


def test_a_channel_at_zero_in_three_layers(gate: Gate) -> None:
    """8 bits may change the answers more than this does."""
    source = gate.folder / "source.onnx"
    source.write_bytes(gate.model.SerializeToString())

    def plant(model: onnx.ModelProto) -> None:
        layers = [tensor for tensor in model.graph.initializer if tensor.name.endswith(".weight") and tensor.dims]
        for tensor in layers[1:4]:
            weights = numpy_helper.to_array(tensor).copy()
            weights[2] = 0
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))

    report = gate.departure(plant, precision="int8", source=source)
    (weights,) = [fault for fault in report.faults if fault.code == "parity.weights_differ"]
    assert "3 layers" in weights
    assert weights.count("(channel 2)") == 3


def test_weights_rounded_to_half_precision_are_those_of_the_network(gate: Gate) -> None:
    source, half = gate.folder / "source.onnx", gate.folder / "half.onnx"
    source.write_bytes(gate.model.SerializeToString())
    normal = gate.reference.trained.preprocessing.normalise(gate.reference.crops_rgb)
    write_onnx_fp16(source, CalibrationImages(normal), half)
    gate.prove(half, precision="int8", source=source)


def test_two_labels_swapped(gate: Gate) -> None:
    def plant(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name.startswith("fc."):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[[0, 2, 1]].copy(), tensor.name))

    report = gate.departure(plant)
    assert codes(report.causes) == ["parity.swapped_labels"]
    assert report.causes[0].endswith(": blue top and white top")


def test_labels_swapped_in_the_meta_json(gate: Gate) -> None:
    meta = gate.meta.model_copy(update={"labels": ("white top", "red top", "blue top")})
    assert codes(gate.departure(meta=meta).causes) == ["parity.reordered_labels"]


def test_fp16_overflow(gate: Gate) -> None:
    """The same function with one large layer: exact in float32, infinite in float16."""

    def scale(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            factor = {"conv1.0.weight": 1e6, "conv1.3.weight": 1e-6}.get(tensor.name)
            if factor is not None:
                scaled = numpy_helper.to_array(tensor) * np.float32(factor)
                tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))

    def halve(model: onnx.ModelProto) -> None:
        nodes = list(model.graph.node)
        del model.graph.node[:]
        for node in nodes:
            name = node.output[0]
            if node.op_type != "Conv":
                model.graph.node.append(node)
            else:
                node.output[0] = f"{name}_full"
                model.graph.node.append(node)
                model.graph.node.append(
                    helper.make_node("Cast", [f"{name}_full"], [f"{name}_half"], to=TensorProto.FLOAT16)
                )
                model.graph.node.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))

    scale(gate.model)
    source = gate.folder / "source.onnx"
    source.write_bytes(gate.model.SerializeToString())
    gate.prove(source)  # it is the network still
    gate.report_file.unlink()
    report = gate.departure(halve, precision="fp16", source=source)
    (infinite,) = [fault for fault in report.faults if fault.code == "parity.output_not_finite"]
    assert "12 of 12" in infinite
    assert report.causes[0].code == "parity.fp16_overflow"
    assert "65504" in report.causes[0]
    assert report.divergence is not None
    assert (report.divergence.operator, report.divergence.difference) == ("Cast", None)


def test_batch_normalisation_left_in_training_mode(reference: Reference) -> None:
    converted = broken(reference, lambda module: isinstance(module, nn.BatchNorm2d))
    report = compare_with(reference, converted)
    assert codes(report.causes) == ["parity.batch_norm_in_training_mode"]
    assert "parity.depends_on_batch" in codes(report.faults)


def test_dropout_left_in_training_mode(reference: Reference) -> None:
    runtime = reference.trained.runtime
    assert isinstance(runtime, TorchRuntime)
    network = nn.Sequential(runtime.network, nn.Dropout(0.5))
    converted = replace(reference.trained, runtime=TorchRuntime(network))
    network.train()
    runtime.network.eval()
    assert codes(compare_with(reference, converted).causes) == ["parity.dropout_in_training_mode"]


def broken(reference: Reference, is_broken: Callable[[nn.Module], bool]) -> Classifier:
    """The trained network with some layers in training mode."""
    import copy

    assert isinstance(reference.trained.runtime, TorchRuntime)
    runtime = TorchRuntime(copy.deepcopy(reference.trained.runtime.network))
    for module in runtime.network.modules():
        if is_broken(module):
            module.training = True
    return replace(reference.trained, runtime=runtime)


def test_a_wrong_constant_of_an_operator(gate: Gate) -> None:
    def shift_the_pads(model: onnx.ModelProto) -> None:
        pads = next(attribute for attribute in node_of(model, "MaxPool").attribute if attribute.name == "pads")
        pads.ints[:] = [0, 0, 2, 2]

    divergence = gate.departure(shift_the_pads).divergence
    assert divergence is not None
    assert (divergence.node, divergence.operator) == ("node_max_pool2d", "MaxPool")


@pytest.mark.parametrize("version", [12, 99])
def test_a_wrong_opset(gate: Gate, version: int) -> None:
    def stamp(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    verdict = gate.refusal(stamp)
    assert verdict.report is None
    assert verdict.error is not None
    assert verdict.error.code == "parity.invalid_model"


def test_a_truncated_external_data_file(gate: Gate) -> None:
    file = gate.folder / "model.onnx"
    onnx.save(gate.model, file, save_as_external_data=True, location="model.data", size_threshold=0)
    weights = gate.folder / "model.data"
    needed = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[: needed // 2])
    with pytest.raises(ParityError) as caught:
        gate.prove(file)
    assert caught.value.code == "parity.cut_short"
    assert "model.data" in (caught.value.where or "")
    assert f"{needed:,} bytes" in caught.value.what
    weights.unlink()
    with pytest.raises(ParityError) as caught:
        gate.prove(file)
    assert caught.value.code == "parity.missing_weights"
    assert "model.onnx" in caught.value.what


def test_truncated_weights_of_openvino(gate: Gate, tmp_path: Path) -> None:
    graph, weights = tmp_path / "model.xml", tmp_path / "model.bin"
    graph.write_text('<data element_type="f32" offset="0" shape="2" size="8"/><data offset="8" size="4096"/>')
    weights.write_bytes(bytes(100))
    candidate = CandidateConversion("openvino", "fp32", tmp_path / "model_openvino.zip", (graph, weights))
    with pytest.raises(ParityError) as caught:
        ParityCheck(gate.reference, gate.exported.bottle, gate.report_file, PARITY_LIMITS).require(candidate)
    assert caught.value.code == "parity.cut_short"
    assert "model.xml" in caught.value.what
    assert "4,104 bytes" in caught.value.what
    assert " 100 " in caught.value.what


def test_a_model_cut_short(gate: Gate) -> None:
    file = gate.folder / "cut.onnx"
    file.write_bytes(gate.model.SerializeToString()[:5000])
    with pytest.raises(ParityError) as caught:
        gate.prove(file)
    assert caught.value.code == "parity.not_onnx"


def test_thresholds_of_another_run(gate: Gate) -> None:
    meta = gate.meta.model_copy(update={"thresholds": {"red top": 0.4, "blue top": 0.31, "white top": 0.6}})
    faults = gate.departure(meta=meta).faults
    assert faults[0].code == "parity.threshold_mismatch"
    assert "blue top 0.31 instead of 0.5" in faults[0]


def test_meta_json_of_another_run(gate: Gate) -> None:
    training = gate.meta.training.model_copy(update={"run": "v__7_train_eff_4_0.001"})
    faults = gate.departure(meta=gate.meta.model_copy(update={"training": training})).faults
    assert codes(faults) == ["parity.other_model"]
    assert "'top_color', run v__7_train_eff_4_0.001" in faults[0]


def test_meta_json_of_another_group(gate: Gate) -> None:
    faults = gate.departure(meta=gate.meta.model_copy(update={"group": "hat"})).faults
    assert codes(faults) == ["parity.other_model"]
    assert f"'hat', run {gate.meta.training.run}" in faults[0]


def test_meta_json_of_another_model(gate: Gate) -> None:
    labels = ("hat", "cap", "none")
    meta = gate.meta.model_copy(update={"labels": labels, "thresholds": dict.fromkeys(labels, 0.5)})
    verdict = gate.refusal(meta=meta)
    assert verdict.report is None
    assert verdict.error is not None
    assert verdict.error.code == "parity.label_mismatch"
    assert "hat, cap, none" in verdict.error.what


def test_weights_of_another_model(reference: Reference) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 32, 9, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3, bias=False))
    network(torch.zeros(1, 3, 64, 48))
    converted = replace(reference.trained, runtime=TorchRuntime(network))
    assert codes(compare_with(reference, converted).causes) == ["parity.other_weights"]


def test_a_mistake_is_found_where_no_limit_would_show_it(reference: Reference, exported: ExportedBottle) -> None:
    """An undertrained network decides alike with its channels swapped, and int8 has no limit of probabilities."""

    class Swapped:
        description = "BGR"

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return reference.trained.runtime.logits(np.ascontiguousarray(images[:, ::-1]))

    report = compare_with(
        reference, replace(reference.trained, runtime=Swapped()), precision="int8", limits=ParityLimits()
    )
    assert codes(report.faults) == ["parity.explained_by_mistake"]
    assert codes(report.causes) == ["parity.swapped_channels_normalised"]
    assert "BGR" in report.causes[0]


def test_f1_is_held_to_its_limit(reference: Reference) -> None:
    decisions = reference.probs >= np.array(reference.trained.thresholds, np.float32)
    known = replace(reference, truth=decisions.astype(np.float64))

    class Lower:
        description = "lower"

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return reference.trained.runtime.logits(images) - np.float32(50)

    lower = replace(reference.trained, runtime=Lower())
    report = compare_with(known, lower, precision="fp16", limits=ParityLimits(f1=0.002))
    assert report.f1 == 1
    assert report.f1_change is not None
    assert report.f1_change < -0.002
    assert report.faults[0].code == "parity.f1_changed"
    assert f"{report.f1_change:+.4f}" in report.faults[0]
    unknown = replace(reference, truth=np.full_like(known.truth, np.nan))
    again = compare_with(unknown, lower, precision="fp16", limits=ParityLimits(f1=0.002))
    assert (again.truth, again.f1_change) == ("decisions of the trained network", report.f1_change)


def test_opening_is_as_users_open_it(exported: ExportedBottle, reference: Reference) -> None:
    report = compare_with(reference, open_classifier(str(exported.package), exported.bottle))
    assert report.faults == ()
    assert report.neighbour_difference <= report.batch_difference < 1e-5
