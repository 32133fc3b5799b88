"""What an ONNX file says of itself against meta.json, fault by fault."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cls.errors import PackageError, PackageFault
from cls.package.onnx_file import external_faults, external_weights, onnx_faults, read_onnx
from tests.package.metas import make_meta, meta_dict


def model(
    *,
    inputs: dict[str, tuple[int, list[Any]]] | None = None,
    outputs: dict[str, tuple[int, list[Any]]] | None = None,
    initializers: list[onnx.TensorProto] | None = None,
    nodes: list[onnx.NodeProto] | None = None,
    **said: str,
) -> onnx.ModelProto:
    inputs = inputs if inputs is not None else {"images": (TensorProto.FLOAT, ["batch", 3, 64, 48])}
    outputs = outputs if outputs is not None else {"logits": (TensorProto.FLOAT, ["batch", 3])}
    infos = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]
        for tensors in (inputs, outputs)
    ]
    nodes = nodes or [helper.make_node("Identity", ["images"], ["logits"])]
    made = helper.make_model(helper.make_graph(nodes, "g", *infos, initializer=initializers or []))
    helper.set_model_props(made, said)
    return made


def faults(made: onnx.ModelProto, **changes: Any) -> list[PackageFault]:
    return onnx_faults(made, make_meta(**changes), "m.onnx")


def fault(made: onnx.ModelProto, code: str) -> PackageFault:
    """The one fault there is."""
    (found,) = faults(made)
    assert found.code == f"package.{code}"
    return found


def external(name: str, location: str, **entries: int) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, location, **entries)
    tensor.ClearField("raw_data")
    return tensor


def test_reading() -> None:
    made = model()
    assert read_onnx(made.SerializeToString(), "x").graph.name == "g"
    with pytest.raises(PackageError) as caught:
        read_onnx(b"", "x")
    assert caught.value.code == "package.not_onnx"
    assert caught.value.where == "x"
    with pytest.raises(PackageError) as caught:
        read_onnx(b"not a network", "x")
    assert caught.value.code == "package.not_onnx"
    assert caught.value.where == "x"
    assert len(caught.value.line()) < 400


def test_nothing_said_is_no_fault() -> None:
    assert faults(model()) == []
    assert faults(model(labels="not JSON", thresholds="3", preprocessing="[]")) == []


@pytest.mark.parametrize(
    ("kind", "shape", "found"),
    [
        (TensorProto.FLOAT, ["b", "c", "h", "w"], None),
        (TensorProto.FLOAT, [5, 3, 64, 48], None),
        (TensorProto.FLOAT, ["b", 3, 64, 47], "FP32 [-1, 3, 64, 47]"),
        (TensorProto.FLOAT, ["b", 3, 64], "FP32 [-1, 3, 64]"),
        (TensorProto.FLOAT, ["b", 3, 48, 64], "FP32 [-1, 3, 48, 64]"),
        (TensorProto.FLOAT16, ["b", 3, 64, 48], "FP16 [-1, 3, 64, 48]"),
        (TensorProto.UINT8, ["b", 3, 64, 48], "UINT8 [-1, 3, 64, 48]"),
        (TensorProto.INT64, ["b", 3, 64, 48], "ONNX type 7 [-1, 3, 64, 48]"),
    ],
)
def test_the_input(kind: int, shape: list[Any], found: str | None) -> None:
    made = model(inputs={"images": (kind, shape)})
    if found is None:
        assert faults(made) == []
    else:
        said = fault(made, "tensor_mismatch")
        assert "'images' is FP32 [-1, 3, 64, 48]," in said
        assert said.endswith(f" m.onnx it is {found}")


def test_other_names_and_further_inputs() -> None:
    named = {"b": (TensorProto.FLOAT, [1]), "a": (TensorProto.FLOAT, [1])}
    name, number = faults(model(inputs=named))
    assert (name.code, number.code) == ("package.tensor_not_in_model", "package.further_inputs")
    assert "input 'images'" in name
    assert name.endswith("m.onnx has a, b")
    assert "2 inputs" in number
    assert number.endswith(" 1")
    other = fault(model(outputs={"probs": (TensorProto.FLOAT, ["b", 3])}), "tensor_not_in_model")
    assert "output 'logits'" in other
    assert other.endswith("m.onnx has probs")
    weights = {"images": (TensorProto.FLOAT, ["b", 3, 64, 48]), "w": (TensorProto.FLOAT, [2])}
    initializers = [numpy_helper.from_array(np.zeros(2, np.float32), "w")]
    assert faults(model(inputs=weights, initializers=initializers)) == [], "older files list weights as inputs"
    two = {"logits": (TensorProto.FLOAT, ["b", 3]), "features": (TensorProto.FLOAT, ["b", 9])}
    assert faults(model(outputs=two)) == [], "further outputs may be left alone"


LABELS = ("black hair", "blonde hair", "red hair")


def test_labels_in_another_order_or_others() -> None:
    assert faults(model(labels=json.dumps(LABELS))) == []
    order = fault(model(labels=json.dumps(LABELS[::-1])), "label_order_mismatch")
    assert order.endswith("m.onnx: black hair, blonde hair, red hair")
    others = fault(model(labels=json.dumps(["a", "b", "c", "d", "e", "f"])), "label_mismatch")
    assert "'hair_color' with the labels black hair, blonde hair, red hair, " in others
    assert others.endswith(" a, b, c, d and 2 more")
    assert fault(model(labels=json.dumps(["a", "b", "c", "d"])), "label_mismatch").endswith(" a, b, c, d")


@pytest.mark.parametrize(
    ("said", "run", "weights"),
    [
        ({"run": "other"}, "other", "?"),
        ({"weights": "e" * 64}, "?", "e" * 12),
        ({"run": "other", "weights": "e" * 64}, "other", "e" * 12),
        ({"run": "v__0_train_eff_4_0.001", "weights": "e" * 64}, "v__0_train_eff_4_0.001", "e" * 12),
    ],
)
def test_another_run(said: dict[str, str], run: str, weights: str) -> None:
    told = fault(model(**said), "other_model")
    assert "run v__0_train_eff_4_0.001 (weights cccccccccccc)," in told
    assert told.endswith(f"run {run} (weights {weights})")
    both = faults(model(labels=json.dumps(["a"]), **said))
    assert len(both) == 1, "said once"


def test_the_same_run() -> None:
    assert faults(model(run="v__0_train_eff_4_0.001")) == []
    assert faults(model(weights="c" * 64)) == []
    assert faults(model(run="v__0_train_eff_4_0.001", weights="c" * 64)) == []


def test_thresholds() -> None:
    same = json.dumps(dict.fromkeys(LABELS, 0.5))
    other = json.dumps({"black hair": 0.25, "blonde hair": 0.5})
    labels = json.dumps(LABELS)
    assert faults(model(labels=labels, thresholds=same)) == []
    told = fault(model(labels=labels, thresholds=other), "threshold_mismatch")
    assert told.endswith("m.onnx: black hair 0.5 instead of 0.25, red hair 0.5 instead of None")
    assert faults(model(thresholds=other)) == [], "of what labels is not said"
    many = tuple("abcdef")
    made = model(
        labels=json.dumps(many), thresholds=json.dumps(dict.fromkeys(many, 0.1)),
        outputs={"logits": (TensorProto.FLOAT, ["b", 6])},
    )  # fmt: skip
    said = onnx_faults(made, make_meta(many), "m.onnx")
    assert [one.code for one in said] == ["package.threshold_mismatch"]
    assert said[0].endswith("d 0.5 instead of 0.1 and 2 more")


def test_preprocessing() -> None:
    said = make_meta().preprocessing.model_dump(mode="json")
    assert faults(model(preprocessing=json.dumps(said))) == []
    assert faults(model(preprocessing=json.dumps({"height_px": 64}))) == [], "what it does not say is no fault"
    other = {**said, "height_px": 65, "later": 1}
    told = fault(model(preprocessing=json.dumps(other)), "preprocessing_mismatch")
    assert told.endswith("m.onnx: height_px 64 instead of 65; later None instead of 1")
    assert meta_dict()["preprocessing"]["height_px"] == 64


def test_where_weights_are() -> None:
    tensors = [
        external("a", "w.bin", offset=0, length=16),
        external("b", "w.bin", offset=100, length=16),
        external("c", "w.bin", offset=16, length=16),
        external("d", "other.bin"),
        numpy_helper.from_array(np.zeros(4, np.float32), "e"),
    ]
    assert external_weights(model(initializers=tensors)) == {"w.bin": 116, "other.bin": 0}
    assert external_weights(model()) == {}


def test_weights_in_every_corner_of_a_graph() -> None:
    constant = helper.make_node("Constant", [], ["k"], value=external("k", "constant.bin", length=4))
    several = helper.make_node("Odd", [], ["t"], domain="x", many=[external("t", "tensors.bin", length=8)])
    inner = helper.make_graph([constant], "inner", [], [], initializer=[external("i", "inner.bin", length=12)])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    loops = helper.make_node("Odd", [], ["z"], domain="x", graphs=[inner])
    made = model(nodes=[branch, several])
    assert external_weights(made) == {"constant.bin": 4, "tensors.bin": 8, "inner.bin": 12}
    assert external_weights(model(nodes=[loops])) == {"constant.bin": 4, "inner.bin": 12}
    function = helper.make_function("x", "F", [], ["k"], [constant], [helper.make_opsetid("", 18)])
    made = model()
    made.functions.append(function)
    assert external_weights(made) == {"constant.bin": 4}
    sparse = onnx.SparseTensorProto(
        values=external("v", "values.bin", length=4), indices=external("n", "indices.bin", length=8)
    )
    made = model()
    made.graph.sparse_initializer.append(sparse)
    assert external_weights(made) == {"values.bin": 4, "indices.bin": 8}


def test_what_is_wrong_with_weights_outside() -> None:
    made = model(initializers=[external("a", "w.bin", offset=4, length=16)])
    for sizes, code in (
        ({}, "package.missing_weights"),
        ({"w.bin": 19}, "package.cut_short"),
        ({"w.bin": 20}, "package.external_weights"),
    ):
        (found,) = external_faults(made, "m.onnx", sizes)
        assert found.code == code
        assert found.startswith("m.onnx ")
        assert "'w.bin'" in found
        assert ("19 bytes, and 20" in found) is (code == "package.cut_short")
    assert external_faults(model(), "m.onnx", {}) == []
