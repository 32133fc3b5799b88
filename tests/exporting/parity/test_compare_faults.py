"""Every fault planted here is a mistake that conversions really make; the parity check must refuse and name it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cls.errors import ParityError
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.onnx_fp16 import write_onnx_fp16
from cls.exporting.parity.check import Candidate, ParityCheck
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.samples import ParitySample, Reference, reference_of
from cls.package.meta import ModelMeta, read_meta
from cls.package.packing import PackedModel, write_package
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import TorchRuntime
from cls.runtimes.open import classifier_of_run, open_classifier
from cls.settings import PARITY_LIMITS, ParityLimits
from tests.exporting.runs import ExportedBottle

Plant = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def reference(exported: ExportedBottle) -> Reference:
    people = exported.run.validation_samples()
    samples = [ParitySample(exported.bottle.picture(s.path), s.person, s.labels) for s in people]
    return reference_of(classifier_of_run(exported.run), samples)


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
    ) -> str:
        """What the check says of the exported model with a fault planted, or of its package with another meta.json."""
        if plant is not None:
            plant(self.model)
        file = self.folder / "model.onnx"
        file.write_bytes(self.model.SerializeToString())
        with pytest.raises(ParityError) as refused:
            self.prove(file, meta, precision=precision, source=source)
        line = refused.value.line()
        assert "\n" not in line
        assert f"the report is {self.refused_file.with_suffix('.html')}" in line
        assert not self.report_file.exists()
        assert json.loads(self.refused_file.read_text())["formats"]["onnx"]["faults"]
        page = self.refused_file.with_suffix(".html").read_text()
        assert ">refused</b>" in page
        assert "http" not in page  # it needs nothing from elsewhere
        return line

    def prove(
        self, file: Path, meta: ModelMeta | None = None, *, precision: str = "fp32", source: Path | None = None
    ) -> None:
        archive = self.folder / "model_onnx.zip"
        write_package(archive, meta or self.meta, PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": file}))
        candidate = Candidate("onnx", precision, archive, (file,), source)
        ParityCheck(self.reference, self.exported.bottle, self.report_file, PARITY_LIMITS).require(candidate)


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
    line = gate.refusal(channels(0, 2, 1))
    assert "looks like: the channels are swapped (RBG for RGB)" in line
    assert "the first layer that departs is seen (Gather)" in line


def test_bgr_for_rgb(gate: Gate) -> None:
    """Pixels in OpenCV's order, then normalised as if they were RGB."""
    size = gate.meta.preprocessing_object()
    nodes = normalised_back()
    nodes.append(helper.make_node("Gather", ["levels", "order"], ["turned"], axis=1))
    nodes.append(helper.make_node("Sub", ["turned", "mean_rgb"], ["centred"]))
    nodes.append(helper.make_node("Div", ["centred", "std_rgb"], ["seen"]))
    line = gate.refusal(before_the_network(*nodes, order=np.array([2, 1, 0]), **statistics(size)))
    assert "looks like: the channels are swapped (BGR for RGB); " in line


def test_missing_normalisation(gate: Gate) -> None:
    size = gate.meta.preprocessing_object()
    nodes = normalised_back()
    nodes[-1].output[0] = "seen"
    line = gate.refusal(before_the_network(*nodes, **statistics(size)))
    assert "looks like: the normalisation is missing (levels of 0 to 1 go in)" in line


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

    line = gate.refusal(plant, precision="int8", source=source)
    assert "the weights of 3 layers are not those of the trained network: " in line
    assert line.count("(channel 2)") == 3


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

    assert "looks like: two labels are swapped: blue top and white top" in gate.refusal(plant)


def test_labels_swapped_in_the_meta_json(gate: Gate) -> None:
    meta = gate.meta.model_copy(update={"labels": ("white top", "red top", "blue top")})
    assert "looks like: the labels are in another order: " in gate.refusal(meta=meta)


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
    line = gate.refusal(halve, precision="fp16", source=source)
    assert "answers are infinite or not a number for 12 of 12 people" in line
    assert "looks like: fp16 overflow: " in line
    assert "is beyond 65504, the largest number of fp16" in line
    assert "(Cast)" in line
    assert "it answers infinity or no number" in line


def test_batch_normalisation_left_in_training_mode(reference: Reference) -> None:
    converted = broken(reference, lambda module: isinstance(module, nn.BatchNorm2d))
    report = compare_with(reference, converted)
    assert "batch normalisation left in training mode" in report.causes
    assert any("depends on the other people in the batch" in fault for fault in report.faults)


def test_dropout_left_in_training_mode(reference: Reference) -> None:
    runtime = reference.trained.runtime
    assert isinstance(runtime, TorchRuntime)
    network = nn.Sequential(runtime.network, nn.Dropout(0.5))
    converted = replace(reference.trained, runtime=TorchRuntime(network))
    network.train()
    runtime.network.eval()
    assert compare_with(reference, converted).causes == (
        "something in the network is random: dropout left in training mode",
    )


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

    line = gate.refusal(shift_the_pads)
    assert "the first layer that departs is node_max_pool2d (MaxPool)" in line


@pytest.mark.parametrize("version", [12, 99])
def test_a_wrong_opset(gate: Gate, version: int) -> None:
    def stamp(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    line = gate.refusal(stamp)
    assert "the conversion cannot be used: is not an ONNX network" in line
    assert "opset" in line.lower()


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
    candidate = Candidate("openvino", "fp32", tmp_path / "model_openvino.zip", (graph, weights))
    with pytest.raises(ParityError) as caught:
        ParityCheck(gate.reference, gate.exported.bottle, gate.report_file, PARITY_LIMITS).require(candidate)
    assert caught.value.code == "parity.cut_short"
    assert "model.xml" in caught.value.what
    assert "4,104 bytes are needed, 100 are" in caught.value.what


def test_a_model_cut_short(gate: Gate) -> None:
    file = gate.folder / "cut.onnx"
    file.write_bytes(gate.model.SerializeToString()[:5000])
    with pytest.raises(ParityError) as caught:
        gate.prove(file)
    assert caught.value.code == "parity.not_onnx"


def test_thresholds_of_another_run(gate: Gate) -> None:
    meta = gate.meta.model_copy(update={"thresholds": {"red top": 0.4, "blue top": 0.31, "white top": 0.6}})
    assert "the thresholds are not those of the run: blue top 0.31 instead of 0.5" in gate.refusal(meta=meta)


def test_meta_json_of_another_run(gate: Gate) -> None:
    training = gate.meta.training.model_copy(update={"run": "v__7_train_eff_4_0.001"})
    line = gate.refusal(meta=gate.meta.model_copy(update={"training": training}))
    assert "the meta.json is of another model: it says group 'top_color', run v__7_train_eff_4_0.001" in line


def test_meta_json_of_another_group(gate: Gate) -> None:
    line = gate.refusal(meta=gate.meta.model_copy(update={"group": "hat"}))
    assert f"the meta.json is of another model: it says group 'hat', run {gate.meta.training.run}" in line


def test_meta_json_of_another_model(gate: Gate) -> None:
    labels = ("hat", "cap", "none")
    meta = gate.meta.model_copy(update={"labels": labels, "thresholds": dict.fromkeys(labels, 0.5)})
    assert "looks like: the meta.json is of another model" in gate.refusal(meta=meta)


def test_weights_of_another_model(reference: Reference) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 32, 9, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3, bias=False))
    network(torch.zeros(1, 3, 64, 48))
    converted = replace(reference.trained, runtime=TorchRuntime(network))
    causes = compare_with(reference, converted).causes
    assert len(causes) == 1
    assert causes[0].startswith("the weights are of another model")


def test_a_mistake_is_found_where_no_limit_would_show_it(reference: Reference, exported: ExportedBottle) -> None:
    """An undertrained network decides alike with its channels swapped, and int8 has no limit of probabilities."""

    class Swapped:
        description = "BGR"

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return reference.trained.runtime.logits(np.ascontiguousarray(images[:, ::-1]))

    report = compare_with(
        reference, replace(reference.trained, runtime=Swapped()), precision="int8", limits=ParityLimits()
    )
    assert report.faults == ("the answers are explained better by a mistake than by rounding",)
    assert report.causes == ("the channels are swapped (BGR for RGB), after normalisation",)


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
    assert report.faults[0].startswith(f"F1 on the labels changes by {report.f1_change:+.4f} for ")
    unknown = replace(reference, truth=np.full_like(known.truth, np.nan))
    again = compare_with(unknown, lower, precision="fp16", limits=ParityLimits(f1=0.002))
    assert (again.truth, again.f1_change) == ("decisions of the trained network", report.f1_change)


def test_opening_is_as_users_open_it(exported: ExportedBottle, reference: Reference) -> None:
    report = compare_with(reference, open_classifier(str(exported.package), exported.bottle))
    assert report.faults == ()
    assert report.neighbour_difference <= report.batch_difference < 1e-5
