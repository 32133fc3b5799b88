"""Every fault of a package is found and named, all of them at once."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from cls.errors import PackageError, PackageFault
from cls.package.meta import ModelMeta
from cls.package.packing import REBUILD_SAMPLES, PackedModel, samples_as_bytes, write_package
from cls.package.plans import Gpu, PlanHost
from cls.package.triton_config import build_config
from cls.package.verifying import verify_zip
from tests.model_storage.packages import make_onnx, make_package
from tests.package.metas import make_meta, meta_dict
from tests.package.zips import changed, fault_of, onnx_bytes, onnx_zip, plan_zip, some_samples


def problems(path: Path, host: PlanHost | None = None) -> list[PackageFault]:
    return verify_zip(path, host).problems


def of_another_model() -> ModelMeta:
    labels = ("fedora", "cap", "beret")
    return make_meta(labels, group="hat", training={"run": "v__7_train_eff_4_0.001", "arch": "resnet18"})


def test_a_good_package(tmp_path: Path) -> None:
    found = verify_zip(onnx_zip(tmp_path))
    assert found.problems == found.warnings == found.not_checked == []
    assert len(found.checked) == 6
    assert found.meta is not None
    assert found.meta.group == "hair_color"


def test_a_package_of_schema_version_1_is_read_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    found = verify_zip(make_package(tmp_path))
    assert found.problems == []
    assert "schema version 1" in found.not_checked[0]


def test_a_meta_json_of_another_model_alone(tmp_path: Path) -> None:
    found = problems(changed(onnx_zip(tmp_path), "meta.json", lambda _: of_another_model().to_json().encode()))
    assert "'hair_color', run v__0_train_eff_4_0.001" in fault_of(found, "package.config_meta_mismatch")
    labels = fault_of(found, "package.label_mismatch")
    assert "'hat' with the labels fedora, cap, beret," in labels
    assert labels.endswith("model.onnx was made for black hair, blonde hair, red hair")


def test_a_meta_json_and_config_of_another_model(tmp_path: Path) -> None:
    """Both texts of one package, the model of another: nothing but the model itself tells."""
    path = tmp_path / "a.zip"
    other = of_another_model()
    write_package(path, other, PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": onnx_bytes(tmp_path, 1, other)}))
    found = problems(changed(path, "model.onnx", lambda _: onnx_bytes(tmp_path, 2)))
    assert "'hat'" in fault_of(found, "package.label_mismatch")
    assert "model.onnx" in fault_of(found, "package.digest_mismatch")


def test_another_run_of_the_same_group(tmp_path: Path) -> None:
    path = onnx_zip(tmp_path)
    found = problems(changed(path, "model.onnx", lambda _: onnx_bytes(tmp_path, 2)))
    assert "model.onnx" in fault_of(found, "package.digest_mismatch")
    model = onnx.load_model_from_string(onnx_bytes(tmp_path, 2))
    onnx.helper.set_model_props(model, {"run": "v__9_train_eff_4_0.001", "weights": "e" * 64})
    found = problems(changed(path, "model.onnx", lambda _: model.SerializeToString()))
    run = fault_of(found, "package.other_model")
    assert "run v__0_train_eff_4_0.001 (weights cccccccccccc), and model.onnx was made from run v__9" in run


def test_labels_in_another_order_and_another_preprocessing(tmp_path: Path) -> None:
    swapped = make_meta(("blonde hair", "black hair", "red hair"))
    said = {**meta_dict()["preprocessing"], "mean_rgb": [0, 0, 0]}
    path = tmp_path / "a.zip"
    write_package(path, swapped, PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": onnx_bytes(tmp_path)}))
    assert ": blonde hair, black hair" in fault_of(problems(path), "package.label_order_mismatch")
    plain = make_meta(preprocessing=said)
    write_package(path, plain, PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": onnx_bytes(tmp_path)}))
    preprocessing = fault_of(problems(path), "package.preprocessing_mismatch")
    assert preprocessing.endswith("model.onnx: mean_rgb [0.0, 0.0, 0.0] instead of [0.485, 0.456, 0.406]")


def test_thresholds_of_another_run(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_bytes(tmp_path))
    said = {prop.key: prop.value for prop in model.metadata_props}
    other = {"black hair": 0.5, "blonde hair": 0.25, "red hair": 0.5}
    onnx.helper.set_model_props(model, {**said, "thresholds": json.dumps(other)})
    files: dict[str, Path | bytes] = {"model.onnx": model.SerializeToString()}
    write_package(tmp_path / "a.zip", make_meta(), PackedModel("onnx", "onnxruntime_onnx", files))
    (fault,) = problems(tmp_path / "a.zip")
    assert fault.code == "package.threshold_mismatch"
    assert fault.endswith("model.onnx: blonde hair 0.5 instead of 0.25")


def test_everything_is_listed_at_once(tmp_path: Path) -> None:
    path = changed(onnx_zip(tmp_path), "model.onnx", lambda _: b"not a network")
    path = changed(path, "config.pbtxt", lambda text: text.replace(b'name: "images"', b'name: "pictures"'))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("extra.txt", "x")
    found = problems(path)
    for code, value in (
        ("package.digest_mismatch", "model.onnx"),
        ("package.not_onnx", "model.onnx"),
        ("package.config_tensor_mismatch", "pictures FP32 [-1, 3, 64, 48], and meta.json images FP32 [-1, 3, 64, 48]"),
        ("package.config_changed", "config.pbtxt"),
        ("package.unknown_file", "extra.txt"),
    ):
        assert value in fault_of(found, code)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("name", "edit", "code", "value"),
    [
        ("config.pbtxt", lambda text: text.replace(b"count: 1", b"count: 9"), "config_changed", "config.pbtxt"),
        ("config.pbtxt", lambda text: b"nonsense {", "invalid_config", "config.pbtxt"),
        ("config.pbtxt", lambda text: build_config(make_meta(), "tensorrt_plan").encode(), "config_mismatch", ".plan"),
        ("config.pbtxt", lambda text: None, "missing_file", "config.pbtxt"),
        ("meta.json", lambda text: b"{", "not_json", "meta.json"),
        ("meta.json", lambda text: None, "missing_file", "meta.json"),
        ("meta.json", lambda text: text.replace(b'"red hair": 0.5', b'"red hair": 1.5'), "invalid_meta", "1.5"),
        ("meta.json", lambda text: text.replace(b'"red hair": 0.5', b'"grey": 0.5'), "meta_thresholds", "meta.json"),
        ("meta.json", lambda text: text.replace(b'schema_version": 3', b'schema_version": 9'), "unsupported_version",
         "version 9"),
        ("model.onnx", lambda text: None, "missing_file", "model.onnx is"),
        ("model.onnx", lambda text: text[: len(text) // 2], "not_onnx", "model.onnx"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, name: str, edit: object, code: str, value: str) -> None:
    found = verify_zip(changed(onnx_zip(tmp_path), name, edit))  # type: ignore[arg-type]
    with pytest.raises(PackageError) as caught:
        found.raise_if_bad()
    assert caught.value.code == "package.invalid"
    assert caught.value.where is not None
    assert "changed_model_onnx" in caught.value.where
    assert caught.value.faults == tuple(found.problems)
    assert any(fault.code == f"package.{code}" and value in fault for fault in found.problems)


def test_labels_of_meta_json_against_the_width_of_the_output(tmp_path: Path) -> None:
    two = make_meta(("black hair", "blonde hair"))
    path = tmp_path / "a.zip"
    write_package(path, two, PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": onnx_bytes(tmp_path)}))
    fault = fault_of(problems(path), "package.tensor_mismatch")
    assert "'logits' is FP32 [-1, 2], and in model.onnx it is FP32 [-1, 3]" in fault


def test_cut_short(tmp_path: Path) -> None:
    content = onnx_zip(tmp_path).read_bytes()
    for share in (0.2, 0.5, 0.9, 0.99):
        path = tmp_path / "cut.zip"
        path.write_bytes(content[: int(len(content) * share)])
        assert [fault.code for fault in problems(path)] == ["package.not_a_zip"]
    assert [fault.code for fault in problems(tmp_path / "none.zip")] == ["package.not_found"]


def test_damaged_inside(tmp_path: Path) -> None:
    path = onnx_zip(tmp_path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.onnx")
    content = bytearray(path.read_bytes())
    place = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)
    assert "model.onnx" in fault_of(problems(path), "package.damaged")


@pytest.mark.parametrize(
    ("size", "code", "value"),
    [
        (None, "package.missing_weights", "'model.onnx.data'"),
        (10, "package.cut_short", "10 bytes, and 36"),
        (36, "package.external_weights", "'model.onnx.data'"),
    ],
)
def test_weights_in_another_file(tmp_path: Path, size: int | None, code: str, value: str) -> None:
    model = onnx.load(make_onnx(tmp_path / "m.onnx"))
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    assert numpy_helper.to_array(weights).nbytes == 36
    onnx.external_data_helper.set_external_data(weights, "model.onnx.data", offset=0, length=36)
    weights.ClearField("raw_data")
    files: dict[str, Path | bytes] = {"model.onnx": model.SerializeToString()}
    if size is not None:
        files["model.onnx.data"] = bytes(size)
    write_package(tmp_path / "a.zip", make_meta(), PackedModel("onnx", "onnxruntime_onnx", files))
    assert value in fault_of(problems(tmp_path / "a.zip"), code)


HERE = PlanHost((Gpu("NVIDIA L4", "8.9"),), "10.13.3", "this machine")


def test_a_plan_for_this_machine(tmp_path: Path) -> None:
    found = verify_zip(plan_zip(tmp_path), HERE)
    assert (found.problems, found.not_checked, found.warnings) == ([], [], [])


@pytest.mark.parametrize(
    ("host", "code", "values"),
    [
        (PlanHost((Gpu("NVIDIA H100", "9.0"),)), "package.other_gpu", ["NVIDIA L4", "8.9", "NVIDIA H100 (9.0)"]),
        (PlanHost((), "10.3.0"), "package.other_tensorrt", ["10.13.3.9", "10.3.0"]),
    ],
)
def test_a_plan_for_another_machine(tmp_path: Path, host: PlanHost, code: str, values: list[str]) -> None:
    (fault,) = problems(plan_zip(tmp_path), host)
    assert fault.code == code
    assert all(value in fault for value in values)


def test_what_is_not_known_of_a_plan_is_said(tmp_path: Path) -> None:
    found = verify_zip(plan_zip(tmp_path), PlanHost())
    assert found.problems == []
    assert len(found.not_checked) == 2
    assert "it may be slower" in verify_zip(plan_zip(tmp_path), PlanHost((Gpu("RTX 4090", "8.9"),))).warnings[0]
    assert "its meta.json does not name it" in verify_zip(plan_zip(tmp_path, plan=None)).not_checked[0]


def test_a_plan_that_is_none_or_of_another_version_than_said(tmp_path: Path) -> None:
    broken = changed(plan_zip(tmp_path), "model.plan", lambda _: b"ONNX")
    assert "model.plan" in fault_of(problems(broken), "package.not_a_plan")
    other = plan_zip(tmp_path, version="10.3.0.26")
    version = fault_of(problems(other), "package.tensorrt_version_mismatch")
    assert all(value in version for value in ("model.plan", "10.3.0.26", "10.13.3"))


def test_people_inside_are_named(tmp_path: Path) -> None:
    assert "holds cut-outs of 4 people" in verify_zip(plan_zip(tmp_path, people=4)).warnings[0]
    assert "holds cut-outs of 1 person (" in verify_zip(plan_zip(tmp_path, people=1)).warnings[0]
    samples = some_samples(2, ("a", "b", "c"))
    bad = changed(plan_zip(tmp_path, people=1), REBUILD_SAMPLES, lambda _: samples_as_bytes(samples))
    assert fault_of(problems(bad), "package.other_model").endswith(" a, b, c")
    bad = changed(plan_zip(tmp_path, people=1), REBUILD_SAMPLES, lambda content: content[:100])
    assert REBUILD_SAMPLES in fault_of(problems(bad), "package.invalid_samples")


def test_samples_are_the_same_bytes_for_the_same_people() -> None:
    assert samples_as_bytes(some_samples(3)) == samples_as_bytes(some_samples(3))


def test_torchscript_tensors_get_the_names_that_triton_knows(tmp_path: Path) -> None:
    own = write_package(
        tmp_path / "a.zip", make_meta(), PackedModel("torchscript", "pytorch_libtorch", {"model.pt": b"x"})
    )
    assert (own.inputs[0].name, own.outputs[0].name) == ("images__0", "logits__0")
    assert verify_zip(tmp_path / "a.zip").problems == []


def test_the_zip_says_the_same_twice(tmp_path: Path) -> None:
    first = onnx_zip(tmp_path, name="a.zip").read_bytes()
    assert onnx_zip(tmp_path, name="b.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        meta = json.loads(archive.read("meta.json"))
    assert set(meta["package"]["files"]) == {"model.onnx", "config.pbtxt"}
    assert all(len(digest) == 64 for digest in meta["package"]["files"].values())
