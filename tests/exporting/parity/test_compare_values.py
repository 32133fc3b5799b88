"""Single values of the parity check that nothing else shows."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cls.errors import ExportError
from cls.exporting.parity import check as parity_gate
from cls.exporting.parity.compare import _shown, label_faults
from cls.exporting.parity.layers import (
    _channels_beyond,
    _difference,
    _Graph,
    _node_after,
    divergence_from_onnx,
    divergence_from_torch,
    weight_faults,
)
from cls.exporting.parity.page import _LIMITS, _distinct_texts, _facts
from cls.exporting.parity.report import _label_meta
from cls.exporting.parity.results import LabelResult, odd_sizes
from cls.exporting.parity.samples import ParitySample, Reference
from cls.people.photos import Person
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import OnnxRuntime
from cls.settings import PARITY_LIMITS, ParityLimits
from tests.exporting.networks import small_network
from tests.exporting.parity.test_page import WORST, report_of
from tests.exporting.tables import reference

IMAGES = np.random.default_rng(2).normal(size=(5, 3, 32, 24)).astype(np.float32)


def test_which_network_cannot_be_run_is_said(tmp_path: Path) -> None:
    source, broken = tmp_path / "source.onnx", tmp_path / "broken.onnx"
    small_network(source)
    model = onnx.load(source)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, broken)
    for first, second in ((source, broken), (broken, source)):
        with pytest.raises(ExportError) as caught:
            divergence_from_onnx(first, IMAGES, second, IMAGES, "fp32")
        assert caught.value.code == "export.run_failed"
        assert caught.value.where == str(broken)
        assert "NoSuchOperator" in caught.value.what


def test_a_network_that_was_looked_into_is_as_before(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    path = tmp_path / "linear.onnx"
    weights = {
        name: numpy_helper.from_array(value.detach().numpy(), name) for name, value in network.named_parameters()
    }
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["images", "1.weight", "1.bias"], ["logits"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        list(weights.values()),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    divergence_from_torch(network, rows, path, rows)
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(network(torch.from_numpy(rows)), network(torch.from_numpy(rows)))


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (0.01234, 0.01, "0.0123"), (0.010004, 0.01, "0.010004"), (0.0100000012, 0.01, "0.010000001"),
        (0.01000000012, 0.01, "0.0100000001"), (12.0, 0.3, "12"), (0.3001, 0.3, "0.3001"),
    ],
)  # fmt: skip
def test_a_number_beyond_its_limit_reads_so(value: float, limit: float, text: str) -> None:
    """With three digits at least, and nine at most."""
    assert _shown(value, limit) == text


def test_people_without_photos() -> None:
    people = reference(np.array([[0.9, 0.2]]))
    assert people.samples == ()
    assert people.part is None
    for hidden in ("crops_rgb", "probs", "truth", "samples"):
        assert f"{hidden}=" not in repr(people)
    assert people in {people}, "two references are two, whoever is in them"
    assert people != reference(np.array([[0.9, 0.2]]))


def test_what_is_behind_weights_of_another_kind_is_looked_at(tmp_path: Path) -> None:
    """Tensors that the conversion lacks, that have another shape, no numbers or nothing in them, are passed over."""
    tensors = {
        "gone": np.ones((2, 2), np.float32), "shape": np.ones((2, 2), np.float32), "whole": np.ones(2, np.int64),
        "empty": np.ones((0, 2), np.float32), "last": np.ones((3, 2), np.float32),
    }  # fmt: skip

    def written(name: str, values: dict[str, NDArray[np.generic]]) -> Path:
        initializers = [numpy_helper.from_array(value, key) for key, value in values.items()]
        graph = helper.make_graph([helper.make_node("Identity", ["last"], ["y"])], "x", [], [], initializers)
        onnx.save(helper.make_model(graph), tmp_path / name)
        return tmp_path / name

    changed = {key: value for key, value in tensors.items() if key != "gone"}
    changed |= {"shape": np.ones((2, 3), np.float32), "whole": np.zeros(2, np.int64)}
    changed["last"] = np.array([[1, 1], [1, 1], [1, 0]], np.float32)
    (fault,) = weight_faults(written("a.onnx", {**tensors}), written("b.onnx", {**changed}))
    assert fault.code == "parity.weights_differ"
    assert fault.endswith(": last (channel 2)")


def test_a_single_weight_is_the_first_channel() -> None:
    one, other, allowed = (np.array(value, np.float64) for value in (1.0, 1.5, 0.25))
    assert _channels_beyond(one, other, allowed) == [0]
    assert _channels_beyond(one, one + allowed, allowed) == []


def test_frames_too_narrow_for_an_odd_size() -> None:
    """One pixel of the other side is all that fits."""
    assert odd_sizes(100, 1, 0.45)[0] == (45, 1)
    assert odd_sizes(1, 100, 0.45)[1] == (1, 45)
    assert odd_sizes(1, 1, 2.4)[0] == (3, 2)


def test_facts_of_a_page() -> None:
    facts = dict(_facts(report_of(WORST)))
    assert facts["precision"] == "int8"
    assert list(facts) == [
        "precision", "F1 and mA measured on", "changed decisions", "effect of the batch size",
        "effect of other images in a batch", "NaN or infinite outputs", "tolerances",
    ]  # fmt: skip
    assert facts["NaN or infinite outputs"] == "0"
    assert facts["tolerances"] == "none"
    limited = replace(report_of(WORST), limits=PARITY_LIMITS["int8"])
    assert "\nmean logit difference of a label: 0.4\n" in dict(_facts(limited))["tolerances"]
    assert {one.name for one in fields(ParityLimits)} == set(_LIMITS)


@pytest.mark.parametrize(
    ("expected", "found", "threshold", "shown"),
    [
        (0.5, 0.5, 0.5, ("0.5000", "0.5000", "0.5000")),
        (0.50004, 0.5, 0.5, ("0.50004", "0.50000", "0.50000")),
        (0.5, 0.500000004, 0.1, ("0.50000000", "0.50000000", "0.10000000")),
        (0.5, None, 0.5000001, ("0.5000000", "NaN", "0.5000001")),
    ],
)
def test_probabilities_are_told_apart(
    expected: float, found: float | None, threshold: float, shown: tuple[str, str, str]
) -> None:
    assert _distinct_texts(expected, found, threshold) == shown


def test_the_values_of_four_people_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    small_network(path)
    trained = Classifier(
        "headwear", "v__0", ("hat", "cap"), (0.5, 0.5), Preprocessing(32, 24), OnnxRuntime(path.read_bytes(), "x"), "x"
    )
    crops = np.random.default_rng(3).integers(0, 256, (9, 32, 24, 3), dtype=np.uint8)
    probs = trained.probabilities(crops)
    people = Reference(trained, tuple("abcdefghi"), crops, probs, np.full(probs.shape, np.nan))
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(parity_gate, "divergence_from_onnx", lambda *given: seen.append(given))
    candidate = parity_gate.CandidateConversion("onnx", "fp16", tmp_path / "m.zip", (tmp_path / "half.onnx",), path)
    parity_gate._divergence(people, trained, candidate)
    ((source, right, graph, images, precision),) = seen
    assert (source, graph, precision) == (path, tmp_path / "half.onnx", "fp16")
    for given in (right, images):
        np.testing.assert_array_equal(given, trained.preprocessing.normalise(crops[:4]))


def test_labels_in_meta_json_are_rounded() -> None:
    given: dict[str, object] = {
        "known": 3, "positives": 2, "label_flips": 1, "farthest_flip": 0.1, "f1": 0.9, "f1_of_one_decision": 0.01,
        "f1_change": -0.12345678, "ece": 0.0123456789, "ece_change": 0.1, "logit_shift": -0.123456,
        "logit_error": 0.654321,
    }  # fmt: skip
    found = _label_meta(LabelResult(label="hat", **given))  # type: ignore[arg-type]
    assert (found.f1_change, found.ece, found.logit_shift, found.logit_error) == (-0.123457, 0.112346, -0.1235, 0.6543)
    unknown = _label_meta(LabelResult(label="hat", **{**given, "f1_change": None, "ece": None}))  # type: ignore[arg-type]
    assert (unknown.f1_change, unknown.ece) == (None, None)


def test_a_calibration_error_that_falls_counts_as_one_that_rises() -> None:
    one = LabelResult(
        label="hat", known=200, positives=50, label_flips=0, farthest_flip=0.0, f1=0.9, f1_change=0.0,
        f1_of_one_decision=0.01, ece=0.05, ece_change=-0.0201, logit_shift=0.0, logit_error=0.0,
    )  # fmt: skip
    (line,) = label_faults([one], ParityLimits(label_ece=0.02), "int8", "labels")
    assert "'hat' by -0.0201" in line


def test_people_are_cut_out_anew_for_another_preprocessing(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    person = Person("female", 0.9, (5.0, 5.0, 35.0, 55.0), (np.array([(0.2, 0.1), (0.8, 0.1), (0.8, 0.9)]),))
    samples = (ParitySample(tmp_path / "a.png", person),)
    people = replace(reference(np.array([[0.9, 0.2]])), samples=samples)
    other = Preprocessing(32, 24)
    np.testing.assert_array_equal(people.crops_of(other), [other.cut(image[..., ::-1], person)])


def test_a_value_with_one_that_is_no_number_is_infinitely_far_off() -> None:
    right = np.array([3.0, 4.0], np.float32)
    assert _difference(right, np.array([3.0, np.nan], np.float32)) == float("inf")
    assert _difference(right, np.array([np.inf, 4.0], np.float32)) == float("inf")
    assert _difference(right, right[:1]) == float("inf")
    assert _difference(right, np.array([3.0, 4.5], np.float32)) == pytest.approx(0.1)
    assert _difference(np.zeros(2, np.float32), np.array([0.0, 0.5], np.float32)) == 0.5


def test_where_a_departure_begins() -> None:
    names = [("images", "a"), ("a", "b"), ("a", "c"), ("c", "d")]
    nodes = {made: helper.make_node("Identity", [given], [made], name=made) for given, made in names}
    graph = _Graph(nodes, {name: np.zeros(1, np.float32) for name in nodes})
    for value, right, node in (
        ("a", {"a"}, "b"),
        ("a", {"a", "b"}, "c"),
        ("c", {"a", "c"}, "d"),
        (None, {"a"}, "b"),
        ("d", {"a", "d"}, "b"),  # nothing that departs is fed by it: the first that departs
        ("d", set(nodes), "a"),
    ):
        assert _node_after(graph, value, right).name == node
